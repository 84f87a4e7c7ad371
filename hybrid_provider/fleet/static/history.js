// What was rolled out and trained, the newest first.
import { Badge, Box, Button, HStack, Notice, Nothing, RunLink, Select, Skeleton, Stack, Table, Text, h, useEffect, useState } from "./element.js";
import { modelPath, read, usePolled } from "./client.js";
import { Release, StateBadge, When, Trouble } from "./parts.js";
import { duration, inWords, measure } from "./words.js";

const SECONDS_BETWEEN_LOOKS = 10;
const KINDS = [["all", "Everything"], ["deploy", "Deploys"], ["rollback", "Rollbacks"], ["audit", "Audits"], ["training", "Trainings"]];

export function History({ name }) {
  const newest = usePolled(`${modelPath(name)}/history`, SECONDS_BETWEEN_LOOKS);
  const [older, setOlder] = useState({ changes: [], next: undefined });
  const [kind, setKind] = useState("all");
  const [trouble, setTrouble] = useState(null);
  useEffect(() => setOlder({ changes: [], next: undefined }), [name]);
  if (!newest.value) return newest.error ? h(Trouble, { answer: newest }) : h(Skeleton, { height: "40", role: "status", "aria-label": "Loading the history" });

  // What came meanwhile pushes rows from the first page to the next: each event once.
  const all = new Map([...newest.value.changes, ...older.changes].map((change) => [change.id, change]));
  const rows = [...all.values()].filter((change) => kind === "all" || change.kind === kind);
  const next = older.next === undefined ? newest.value.next : older.next;
  const loadOlder = () => read(`${modelPath(name)}/history?before=${next}`).then(
    ({ value }) => setOlder((old) => ({ changes: [...old.changes, ...value.changes], next: value.next })),
    setTrouble);

  return h(Stack, { gap: 3 },
    h(Trouble, { answer: newest }),
    trouble && h(Notice, { status: "error", title: "The older ones could not be read" }, trouble.message),
    h(HStack, null, h(Select, { label: "Show", value: kind, onChange: setKind, options: KINDS })),
    rows.length
      ? h(Table.ScrollArea, { borderWidth: "1px", borderRadius: "lg", tabIndex: 0, role: "region", "aria-label": "Rollouts and trainings, scrollable" },
          h(Table.Root, { size: "sm" },
            h(Table.Header, null, h(Table.Row, { bg: "bg.subtle" },
              ["When", "What", "Release", "State", "Hosts", "Duration", "Training job", "Metrics", "Run"].map((title) => h(Table.ColumnHeader, { key: title }, title)))),
            h(Table.Body, null, rows.map((change) => h(Row, { key: change.id, change })))))
      : h(Nothing, { title: "Nothing yet" }, "Every rollout, rollback, audit and training of this model is listed here when it has ended."),
    next != null && h(Button, { size: "sm", variant: "outline", alignSelf: "center", onClick: loadOlder }, "Show older ones"));
}

const Row = ({ change }) =>
  h(Table.Row, null,
    h(Table.Cell, null, h(When, { iso: change.at })),
    h(Table.Cell, null, h(Badge, { variant: "outline" }, change.kind),
      change.approved_by && h(Text, { fontSize: "xs", color: "fg.muted" }, `approved by ${change.approved_by}`)),
    h(Table.Cell, null, change.release ? h(Release, { release: change.release }) : "–"),
    h(Table.Cell, null, h(StateBadge, { kind: change.kind, state: change.state })),
    h(Table.Cell, null, Object.entries(change.targets).map(([state, hosts]) => `${hosts} ${inWords(state)}`).join(", ") || "–"),
    h(Table.Cell, null, duration(change.seconds)),
    h(Table.Cell, null, h(Job, { training: change.training })),
    h(Table.Cell, null, h(Metrics, { metrics: change.training?.metrics })),
    // An inline-flex link would be cut off without the dots.
    h(Table.Cell, { maxW: "36", truncate: true, css: { "& a": { display: "inline" } } }, h(RunLink, { dagId: change.dag_id, runId: change.run_id }, change.run_id)));

const Job = ({ training }) =>
  training?.job
    ? h(Box, null, h(Text, { fontSize: "xs", fontFamily: "mono", maxW: "56", truncate: true, title: training.arn ?? training.job }, training.job),
        training.billable_seconds != null && h(Text, { fontSize: "xs", color: "fg.muted" }, `${duration(training.billable_seconds)} billed`))
    : "–";

const Metrics = ({ metrics }) => {
  const entries = Object.entries(metrics ?? {});
  return entries.length
    ? h(Stack, { gap: 0, fontSize: "xs" }, entries.map(([name, value]) => h("span", { key: name }, `${name} ${measure(value)}`)))
    : "–";
};
