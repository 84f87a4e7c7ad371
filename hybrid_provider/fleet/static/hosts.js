// The hosts of a model: filter, sort, select; only the rows that are seen are drawn, so that a thousand scroll.
import {
  Badge, Box, Button, Flex, Input, Nothing, ReactRouterDOM, Select, Table, Text, h, useEffect, useMemo, useRef, useState,
} from "./element.js";
import { HostDrawer } from "./host.js";
import { StateBadge } from "./parts.js";
import { ago, ails, count, exactly, halves, healthOf, inWords } from "./words.js";

const ROW = 44;
const SPARE_ROWS = 6;
// What is in the rows is the browser's own, styled from the table: some hundred of Chakra's cost time when rows come.
const dot = (palette) => [`& .dot.${palette}`, { bg: `${palette}.solid` }];
const STYLE = {
  "& td, & th": { height: `${ROW}px`, py: 0 },
  "& td": { px: 2, borderBottomWidth: "1px", textAlign: "start", verticalAlign: "middle", whiteSpace: "nowrap" },
  "& td.run": { maxWidth: "14rem", overflow: "hidden", textOverflow: "ellipsis" },
  "& .muted": { color: "fg.muted" },
  "& .small": { fontSize: "xs", color: "fg.muted", ms: 2 },
  "& .release": { fontFamily: "mono", fontSize: "xs" },
  "& .dot": { display: "inline-block", borderRadius: "full", boxSize: "2.5", me: 2 },
  ...Object.fromEntries(["success", "failed", "gray"].map(dot)),
  "& td a": { textDecoration: "underline", textUnderlineOffset: "3px", textDecorationColor: "border.emphasized" },
  "& td button": { fontWeight: "semibold", fontSize: "xs", cursor: "pointer", color: "brand.fg" },
  "& input": { accentColor: "brand.solid", boxSize: "4", verticalAlign: "middle", cursor: "pointer" },
};
const COLUMNS = [
  ["target", "Host", (host) => host.target],
  ["release", "Release and digest", (host) => host.release ?? ""],
  ["state", "State", (host) => host.state ?? ""],
  ["probe", "Probe", (host) => String(host.healthy)],
  ["since", "Since", (host) => host.since ?? ""],
  ["rollout", "Last rollout", (host) => host.run_id ?? ""],
];
const SHOWN = [
  ["all", "All hosts"], ["attention", "Need attention"], ["unhealthy", "Unhealthy"], ["unknown", "Not probed"], ["failed", "With an error"], ["behind", "On another release"], ["pinned", "Pinned"],
];

export const NO_FILTER = { text: "", shown: "all", release: "all", group: "all" };

const collator = new Intl.Collator(undefined, { numeric: true });

function matches(host, { text, shown, release, group }, live) {
  if (release !== "all" && (host.release ?? "") !== release) return false;
  if (group !== "all" && (host.group ?? "") !== group) return false;
  if (shown === "attention" && !ails(host)) return false;
  if (shown === "unhealthy" && host.healthy !== false) return false;
  if (shown === "unknown" && host.healthy != null) return false;
  if (shown === "failed" && !host.error) return false;
  if (shown === "behind" && host.release === live) return false;
  if (shown === "pinned" && !host.pinned) return false;
  if (!text) return true;
  const words = [host.target, host.release, host.digest, host.state, inWords(host.state), host.group, host.error, host.probe, healthOf(host).word];
  const said = words.filter(Boolean).join("\n").toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => said.includes(word));
}

export function Hosts({ hosts, summary, selected, onSelect, filter, setFilter }) {
  const [order, setOrder] = useState({ by: "target", down: false });
  const [open, setOpen] = useState(null);
  const live = summary.releases[0]?.release;
  const groups = useMemo(() => [...new Set(hosts.map((host) => host.group).filter(Boolean))].sort(collator.compare), [hosts]);
  const rows = useMemo(() => {
    const [, , key] = COLUMNS.find(([name]) => name === order.by);
    const sorted = hosts.filter((host) => matches(host, filter, live));
    sorted.sort((one, other) => collator.compare(key(one), key(other)) || collator.compare(one.target, other.target));
    return order.down ? sorted.reverse() : sorted;
  }, [hosts, filter, order, live]);
  const change = (part) => setFilter((old) => ({ ...old, ...part }));
  const chosen = open && hosts.find((host) => host.target === open);

  return h(Box, null,
    h(Flex, { gap: 2, wrap: "wrap", mb: 3, align: "center", role: "search", "aria-label": "Filter the hosts" },
      h(Input, { size: "sm", maxW: "xs", type: "search", placeholder: "Search host, release, error …", "aria-label": "Search hosts", value: filter.text, onChange: (event) => change({ text: event.target.value }) }),
      h(Select, { label: "Show", value: filter.shown, onChange: (shown) => change({ shown }), options: SHOWN }),
      h(Select, { label: "Release", value: filter.release, onChange: (release) => change({ release }), options: [["all", "All releases"], ...summary.releases.map(({ release, hosts: n }) => [release ?? "", `${release ?? "no release"} (${n})`])] }),
      groups.length > 0 && h(Select, { label: "Group", value: filter.group, onChange: (group) => change({ group }), options: [["all", "All groups"], ...groups.map((group) => [group, group])] }),
      h(Text, { fontSize: "sm", color: "fg.muted", role: "status", "aria-live": "polite", ml: "auto" },
        rows.length === hosts.length ? count(hosts.length, "host") : `${rows.length.toLocaleString()} of ${count(hosts.length, "host")}`,
        selected.size ? `, ${selected.size.toLocaleString()} selected` : ""),
      selected.size > 0 && h(Button, { size: "xs", variant: "ghost", onClick: () => onSelect(new Set()) }, "Clear selection")),
    rows.length
      ? h(Rows, { rows, selected, onSelect, order, setOrder, onOpen: setOpen })
      : h(Nothing, { title: "No host matches" }, h(Button, { size: "sm", variant: "outline", onClick: () => setFilter(NO_FILTER) }, "Show all hosts")),
    h(HostDrawer, { host: chosen, onClose: () => setOpen(null) }));
}

function Rows({ rows, selected, onSelect, order, setOrder, onOpen }) {
  const [top, setTop] = useState(0);
  // What is out of sight comes when what is in sight is there.
  const [spare, setSpare] = useState(0);
  useEffect(() => setSpare(SPARE_ROWS), []);
  const frame = useRef(null);
  const height = Math.min(rows.length + 1, 14) * ROW + 2;
  const first = Math.max(0, Math.min(Math.floor(top / ROW) - spare, rows.length - 1));
  const last = Math.min(rows.length, Math.ceil((top + height) / ROW) + spare);
  const every = rows.every((host) => selected.has(host.target));
  const some = rows.some((host) => selected.has(host.target));

  const toggle = (names, on) => {
    const next = new Set(selected);
    for (const name of names) on ? next.add(name) : next.delete(name);
    onSelect(next);
  };

  return h(Table.ScrollArea, {
    ref: frame, tabIndex: 0, role: "region", "aria-label": "Hosts, scrollable", height: `${height}px`, borderWidth: "1px", borderRadius: "lg",
    onScroll: (event) => setTop(event.currentTarget.scrollTop),
  },
    h(Table.Root, { size: "sm", stickyHeader: true, "aria-rowcount": rows.length + 1, css: STYLE },
      h(Table.Header, null, h(Table.Row, { bg: "bg.subtle" },
        h(Table.ColumnHeader, { width: "10" }, h(Tick, { label: "Select all that are shown", checked: every ? true : some ? "indeterminate" : false, onChange: (on) => toggle(rows.map((host) => host.target), on) })),
        COLUMNS.map(([name, title]) => h(Sortable, { key: name, name, title, order, setOrder })))),
      h(Table.Body, null,
        first > 0 && h(Gap, { rows: first }),
        rows.slice(first, last).map((host, index) =>
          h(HostRow, { key: host.target, host, index: first + index + 2, selected: selected.has(host.target), onToggle: (on) => toggle([host.target], on), onOpen })),
        last < rows.length && h(Gap, { rows: rows.length - last }))));
}

const Gap = ({ rows }) => h("tr", { "aria-hidden": true }, h("td", { colSpan: COLUMNS.length + 1, style: { height: rows * ROW, padding: 0 } }));

const Tick = ({ label, checked, onChange }) =>
  h("input", {
    type: "checkbox", "aria-label": label, checked: checked === true,
    ref: (box) => { if (box) box.indeterminate = checked === "indeterminate"; },
    onChange: (event) => onChange(event.target.checked),
  });

function Sortable({ name, title, order, setOrder }) {
  const mine = order.by === name;
  return h(Table.ColumnHeader, { "aria-sort": mine ? (order.down ? "descending" : "ascending") : "none" },
    h(Button, { size: "xs", variant: "plain", px: 0, onClick: () => setOrder({ by: name, down: mine && !order.down }) },
      title, h("span", { "aria-hidden": true }, mine ? (order.down ? "↓" : "↑") : "")));
}

function HostRow({ host, index, selected, onToggle, onOpen }) {
  const [created, digest] = host.release ? halves(host.release) : ["no release", ""];
  const health = healthOf(host);
  return h(Table.Row, { "aria-rowindex": index, "aria-selected": selected, bg: selected ? "brand.subtle" : undefined, "data-host": host.target },
    h("td", null, h(Tick, { label: `Select ${host.target}`, checked: selected, onChange: onToggle })),
    h("td", null,
      h("button", { type: "button", onClick: () => onOpen(host.target), "aria-label": `Details of ${host.target}` }, host.target),
      host.group && h("span", { className: "small" }, host.group),
      host.pinned && h(Badge, { size: "xs", ms: 2, colorPalette: "purple", title: `pinned to ${host.pinned}` }, "pinned")),
    h("td", { className: "release", title: host.digest ? `digest ${host.digest}` : undefined },
      h("span", { className: host.release ? undefined : "muted" }, created), digest && h("span", { className: "muted" }, `-${digest}`)),
    h("td", null, h(StateBadge, { state: host.state, title: host.error ?? undefined })),
    h("td", { title: host.probe ?? undefined },
      h("span", { className: `dot ${health.palette}`, "aria-hidden": true }), health.word, host.probed && h("span", { className: "small" }, ago(host.probed))),
    h("td", null, h("time", { dateTime: host.since ?? undefined, title: exactly(host.since) }, ago(host.since))),
    h("td", { className: "run" }, host.dag_id && host.run_id
      ? h(ReactRouterDOM.Link, { to: `/dags/${encodeURIComponent(host.dag_id)}/runs/${encodeURIComponent(host.run_id)}` }, host.run_id)
      : "–"));
}
