// The running rollout, live; or the last one, in one line that opens.
import { Box, Flex, HStack, Heading, RunLink, Stack, Text, chakra, h, useEffect, useState } from "./element.js";
import { Dot, Release, ShareBar, StateBadge, When } from "./parts.js";
import { count, duration, inWords, outcomeOf, paletteOf } from "./words.js";

const SERVING = new Set(["SUCCEEDED", "ALREADY_CURRENT"]);
const NAMES = { deploy: "Deploy", rollback: "Rollback", audit: "Audit" };

/** The seconds of a rollout that goes on, counted here between two looks at the server. */
function useElapsed(rollout) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!rollout.running) return undefined;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [rollout.running]);
  const began = Date.parse(rollout.began);
  return rollout.running && !Number.isNaN(began) ? Math.max(0, (now - began) / 1000) : rollout.seconds;
}

const nameOf = ({ kind }) => NAMES[kind] ?? kind;

/** A rollout in one sentence, for who does not see it. */
export function told(rollout) {
  const states = Object.values(rollout.targets ?? {});
  const done = `${states.filter((state) => SERVING.has(state)).length} of ${count(states.length, "host")} done`;
  const failed = rollout.failures ? `, ${count(rollout.failures, "failure")}` : "";
  const verb = rollout.running ? "is under way" : "has ended";
  return `${nameOf(rollout)} ${verb}, ${inWords(rollout.state)}: ${done}${failed}`;
}

function tally(names, targets) {
  const counts = new Map();
  for (const name of names) counts.set(targets[name] ?? "PENDING", (counts.get(targets[name] ?? "PENDING") ?? 0) + 1);
  return counts;
}

export function Rollout({ rollout }) {
  const seconds = useElapsed(rollout);
  const targets = rollout.targets ?? {};
  const names = [...new Set([...(rollout.waves ?? []).flat(), ...Object.keys(targets)])];
  const counts = tally(names, targets);
  const serving = names.filter((name) => SERVING.has(targets[name])).length;
  const name = nameOf(rollout);
  const waves = rollout.waves ?? [];

  return h(Box, { as: "section", "aria-label": rollout.running ? "Running rollout" : "Last rollout", borderWidth: "1px", borderRadius: "lg", bg: "bg.panel", borderColor: rollout.running ? "running.emphasized" : "border" },
    h(chakra.details, { open: rollout.running || outcomeOf(rollout.kind, rollout.state) !== "SUCCEEDED" || undefined, px: 4, py: 3 },
      h(chakra.summary, { cursor: "pointer" },
        // Beside the triangle, however narrow it is.
        h(Flex, { display: "inline-flex", maxW: "calc(100% - 2rem)", verticalAlign: "top", gap: 3, rowGap: 1, wrap: "wrap", align: "center", ml: 1 },
          h(Heading, { size: "sm", as: "h2" }, `${rollout.running ? "Running" : "Last"} ${name.toLowerCase()}`),
          h(StateBadge, { kind: rollout.kind, state: rollout.state, size: "md" }),
          // While a rollback runs, each host goes to a release of its own.
          rollout.release && h(Release, { release: rollout.release }),
          h(Text, { as: "span", fontSize: "sm", color: "fg.muted" }, `${serving} of ${count(names.length, "host")} done`),
          h(Text, { as: "span", fontSize: "sm", color: "fg.muted" }, duration(seconds)))),
      h(Stack, { gap: 4, mt: 4 },
        h(Flex, { gap: 2, columnGap: 8, wrap: "wrap", align: "center" },
          h(Legend, { counts }),
          h(Budget, { rollout }),
          h(Text, { fontSize: "sm" }, "Its run: ", h(RunLink, { dagId: rollout.dag_id, runId: rollout.run_id }, rollout.run_id),
            rollout.approved_by && `, approved by ${rollout.approved_by}`)),
        h(Stack, { as: "ol", listStyleType: "none", gap: 3 },
          waves.map((wave, index) => h(Wave, { key: index, index, wave, targets, of: waves.length }))))));
}

const Legend = ({ counts }) =>
  h(HStack, { gap: 4, wrap: "wrap", fontSize: "sm" },
    [...counts].map(([state, hosts]) =>
      h(HStack, { key: state, gap: 1.5 }, h(Dot, { palette: paletteOf(state) }), h("span", null, `${hosts} ${inWords(state)}`))));

function Budget({ rollout }) {
  const { failures = 0, max_failures: most } = rollout;
  if (most == null) return null;
  const told = most === 0
    ? `${failures ? count(failures, "failure") : "No failure"}; the policy allows none`
    : failures > most
      ? `${count(failures, "failure")}: more than the ${most} that the policy allows`
      : `${count(failures, "failure")} of ${most} that the policy allows`;
  return h(HStack, { gap: 3, maxW: "full" },
    h(Text, { fontSize: "sm", whiteSpace: "nowrap" }, told),
    h(ShareBar, { width: { base: "8", md: "24" }, flexShrink: 0, whole: Math.max(most, failures, 1), parts: [{ label: "failures", palette: "failed", hosts: failures }], label: told }));
}

function Wave({ index, wave, targets, of }) {
  const done = wave.filter((name) => SERVING.has(targets[name])).length;
  const title = index === 0 && of > 1 ? `Wave 1 of ${of}, the canary` : `Wave ${index + 1} of ${of}`;
  const dense = wave.length > 24;
  return h(Box, { as: "li" },
    h(Text, { fontSize: "xs", color: "fg.muted", mb: 1 }, `${title}: ${done} of ${wave.length}`),
    h(Flex, { as: "ul", listStyleType: "none", wrap: "wrap", gap: dense ? "3px" : 2 },
      wave.map((name) => h(dense ? Cell : Chip, { key: name, name, state: targets[name] ?? "PENDING" }))));
}

const Cell = ({ name, state }) =>
  h(Box, { as: "li", title: `${name}: ${inWords(state)}`, "aria-label": `${name}: ${inWords(state)}`, boxSize: "3.5", borderRadius: "sm", bg: `${paletteOf(state)}.${state === "PENDING" ? "muted" : "solid"}` });

const Chip = ({ name, state }) =>
  h(HStack, { as: "li", borderWidth: "1px", borderRadius: "md", px: { base: 1.5, md: 2 }, py: 1, gap: { base: 1.5, md: 2 }, fontSize: { base: "xs", md: "sm" } },
    h(Dot, { palette: paletteOf(state) }), h("span", null, name),
    h(Text, { as: "span", color: "fg.muted", fontSize: "xs" }, inWords(state)));
