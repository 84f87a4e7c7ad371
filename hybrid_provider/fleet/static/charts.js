// Two small charts, drawn as SVG: a metric per release, and hosts per release over time.
import { Box, Flex, HStack, Heading, Nothing, Select, SimpleGrid, Skeleton, Text, chakra, h, useState } from "./element.js";
import { modelPath, usePolled } from "./client.js";
import { Dot, Trouble } from "./parts.js";
import { createdOf, exactly, measure, palettesOf } from "./words.js";

const SECONDS_BETWEEN_LOOKS = 30;
const WIDTH = 560;
const HEIGHT = 220;
const LEFT = 52;
const RIGHT = 14;
const TOP = 14;
const BOTTOM = 30;
const { svg: Svg, path: Path, circle: Circle, text: SvgText, rect: Rect } = chakra;

export function Charts({ name }) {
  const charts = usePolled(`${modelPath(name)}/charts`, SECONDS_BETWEEN_LOOKS);
  if (!charts.value) return charts.error ? h(Trouble, { answer: charts }) : h(Skeleton, { height: "56", role: "status", "aria-label": "Loading the charts" });
  const { metrics, census } = charts.value;
  return h(SimpleGrid, { columns: { base: 1, xl: 2 }, gap: 4 },
    h(MetricChart, { metrics }),
    h(CensusChart, { census }));
}

const Panel = ({ title, control, children }) =>
  h(Box, { borderWidth: "1px", borderRadius: "lg", p: 4, bg: "bg.panel" },
    h(Flex, { justify: "space-between", mb: 2, minH: "9", align: "center" }, h(Heading, { size: "sm", as: "h2" }, title), control),
    children);

const Drawing = ({ label, children }) =>
  h(Svg, { role: "img", "aria-label": label, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: "full", height: "auto", overflow: "visible" }, children);

const Label = ({ x, y, children, ...rest }) =>
  h(SvgText, { x, y, fill: "fg.muted", fontSize: "11px", ...rest }, children);

/** Round numbers from low to high, some four of them. */
export function ticks(low, high) {
  const rough = (high - low || Math.abs(high) || 1) / 3;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= rough);
  const first = Math.floor(low / step) * step;
  const found = [];
  for (let value = first; value < high + step; value += step) found.push(Number(value.toPrecision(10)));
  return found;
}

function Lines({ values, y }) {
  return values.map((value) => h("g", { key: value },
    h(Path, { d: `M${LEFT} ${y(value)}H${WIDTH - RIGHT}`, stroke: "border", strokeWidth: 1 }),
    h(Label, { x: LEFT - 8, y: y(value) + 4, textAnchor: "end" }, measure(value))));
}

function MetricChart({ metrics }) {
  const names = Object.keys(metrics);
  const [wanted, setWanted] = useState(null);
  const name = names.includes(wanted) ? wanted : names[0];
  if (!name) {
    return h(Panel, { title: "Metric per release" },
      h(Nothing, { title: "No metric yet" }, "Give the training metric_definitions; what it reports is shown here for each release that is deployed."));
  }
  const points = metrics[name];
  const values = points.map((point) => point.value);
  const scale = ticks(Math.min(...values), Math.max(...values));
  const [low, high] = [scale[0], scale.at(-1)];
  const x = (index) => (points.length === 1 ? (LEFT + WIDTH - RIGHT) / 2 : LEFT + 16 + (index * (WIDTH - LEFT - RIGHT - 32)) / (points.length - 1));
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  const line = points.map((point, index) => `${index ? "L" : "M"}${x(index)} ${y(point.value)}`).join("");
  const last = points.at(-1);
  const every = Math.ceil(points.length / 5);
  return h(Panel, { title: "Metric per release", control: h(Select, { label: "Metric", value: name, onChange: setWanted, options: names.map((one) => [one, one]) }) },
    h(Drawing, { label: `${name} of ${points.length} releases, the last ${measure(last.value)}` },
      h(Lines, { values: scale, y }),
      h(Path, { d: line, stroke: "brand.solid", strokeWidth: 2, fill: "none", strokeLinejoin: "round" }),
      points.map((point, index) => h(Circle, { key: point.release, cx: x(index), cy: y(point.value), r: 4, fill: "brand.solid", stroke: "bg.panel", strokeWidth: 1.5 },
        h("title", null, `${point.release}: ${measure(point.value)}`))),
      points.map((point, index) => index % every === 0 && h(Label, { key: point.release, x: x(index), y: HEIGHT - 8, textAnchor: "middle" }, createdOf(point.release).replace(/[, ]+\d{4}.*$/, "")))));
}

function CensusChart({ census }) {
  if (!census.length) {
    return h(Panel, { title: "Hosts per release over time" },
      h(Nothing, { title: "No rollout has ended yet" }, "After each rollout the fleet's releases are shown here."));
  }
  const releases = [...new Set(census.flatMap((step) => Object.keys(step.releases)))].sort();
  const palettes = palettesOf(releases);
  const times = census.map((step) => Date.parse(step.at));
  // Each step holds until the next; the last one a little into the present.
  const end = Math.max(Date.now(), times.at(-1) + 1);
  const begin = times.length > 1 ? times[0] : times[0] - 3600e3;
  const most = Math.max(...census.map((step) => Object.values(step.releases).reduce((sum, n) => sum + n, 0)), 1);
  const scale = ticks(0, most).filter((value) => Number.isInteger(value));
  const x = (time) => LEFT + ((time - begin) / (end - begin)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / scale.at(-1)) * (HEIGHT - TOP - BOTTOM);
  const blocks = census.flatMap((step, index) => {
    const [from, to] = [x(times[index]), x(times[index + 1] ?? end)];
    let below = 0;
    return releases.filter((release) => step.releases[release]).map((release) => {
      const hosts = step.releases[release];
      below += hosts;
      return h(Rect, { key: `${step.at}${release}`, x: from, y: y(below), width: Math.max(1, to - from - 1), height: Math.max(0, y(0) - y(hosts)), fill: `${palettes.get(release)}.solid`, opacity: 0.8 },
        h("title", null, `${exactly(step.at)}: ${hosts} on ${release}`));
    });
  });
  const shown = [...palettes].slice(0, 6);
  return h(Panel, { title: "Hosts per release over time" },
    h(Drawing, { label: `Hosts per release after ${census.length} rollouts; now ${Object.entries(census.at(-1).releases).map(([release, n]) => `${n} on ${release}`).join(", ")}` },
      h(Lines, { values: scale, y }), blocks,
      h(Label, { x: LEFT, y: HEIGHT - 8 }, new Date(begin).toLocaleDateString()),
      h(Label, { x: WIDTH - RIGHT, y: HEIGHT - 8, textAnchor: "end" }, "now")),
    h(HStack, { wrap: "wrap", gap: 3, fontSize: "xs", mt: 2 },
      shown.map(([release, palette]) => h(HStack, { key: release, gap: 1 }, h(Dot, { palette }), h(Text, { as: "span", fontFamily: "mono" }, release.split("-")[0])))));
}
