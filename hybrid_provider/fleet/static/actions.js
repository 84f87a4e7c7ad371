// The buttons: each asks for a run of a DAG, after saying what will happen to how many hosts.
import { Button, Checkbox, Dialog, Field, Flex, Fragment, Input, Notice, Portal, RunLink, Select, Stack, Text, chakra, h, useRef, useState } from "./element.js";
import { startRun } from "./client.js";
import { Release } from "./parts.js";
import { count } from "./words.js";

const KINDS = [
  { kind: "rollback", tag: "hybrid:rollback", text: "Roll back", palette: "danger", Body: RollbackBody },
  { kind: "deploy", tag: "hybrid:deploy", text: "Deploy a release", palette: "brand", Body: DeployBody },
  { kind: "pin", tag: "hybrid:pin", text: "Pin or unpin", palette: "brand", Body: PinBody },
  { kind: "audit", tag: "hybrid:audit", text: "Audit", palette: "brand", Body: AuditBody },
];

// The DAG's own form has hosts. An audit is what brings back a fleet whose state was lost.
const WITHOUT_HOSTS = new Set(["deploy", "audit"]);
const OF_THE_FORM = "The hosts of the DAG's own form will be used";

const missing = (kinds, model) =>
  `No DAG does this for ${model}. Copy ${kinds.map(({ kind }) => `dags/hybrid_${kind}.py`).join(", ")} and set MODEL: `
  + `a button starts the DAG that has the model's asset and the tag ${kinds.map(({ tag }) => tag).join(" or ")}`;

export function Actions({ fleet, selected, onStarted }) {
  const [open, setOpen] = useState(null);
  const cancel = useRef(null);
  const hosts = selected.size ? fleet.hosts.filter((host) => selected.has(host.target)) : fleet.hosts;
  const shown = KINDS.find(({ kind }) => kind === open);
  const action = fleet.actions.find(({ kind }) => kind === open);
  const without = KINDS.filter(({ kind }) => !fleet.actions.some((one) => one.kind === kind));
  const others = KINDS.filter((kind) => !without.includes(kind));
  const reasons = [...(without.length ? [missing(without, fleet.name)] : []), ...reasonsAgainst(others, fleet)];
  return h(Stack, { gap: 1 },
    h(Flex, { role: "group", "aria-label": "What to do with the fleet", gap: 2, wrap: "wrap", align: "center" },
      KINDS.map((kind) => {
        const reason = reasonAgainst(kind, fleet);
        return h(Button, {
          key: kind.kind, size: "sm", variant: kind.kind === "rollback" ? "solid" : "outline", colorPalette: kind.palette,
          disabled: Boolean(reason), title: reason ?? undefined, "aria-describedby": reason ? "fleet-reasons" : undefined, onClick: () => setOpen(kind.kind),
        }, kind.text);
      }),
      hosts.length > 0 && h(Text, { fontSize: "sm", color: "fg.muted" }, selected.size ? `for ${count(hosts.length, "selected host")}` : `for all ${count(hosts.length, "host")}`)),
    reasons.length > 0 && h(Text, { id: "fleet-reasons", fontSize: "xs", color: "fg.muted" }, `${reasons.join(". ")}.`),
    // An alertdialog takes the focus only where it is told to, and so to what does nothing.
    h(Dialog.Root, { open: Boolean(action), initialFocusEl: () => cancel.current, onOpenChange: (change) => change.open || setOpen(null), role: "alertdialog", placement: "center", size: "lg" },
      h(Portal, null, h(Dialog.Backdrop), h(Dialog.Positioner, null, action && h(Dialog.Content, null,
        h(Confirmation, {
          key: open, cancel, shown, action, fleet, hosts,
          onClose: () => setOpen(null),
          onStarted: (run) => { setOpen(null); onStarted({ ...run, what: shown.text }); },
        }))))));
}

/** Each reason once, for all DAGs that have it. */
function reasonsAgainst(kinds, fleet) {
  const dags = new Map();
  for (const kind of kinds) {
    const { dag_id: dag } = fleet.actions.find((action) => action.kind === kind.kind);
    const reason = reasonAgainst(kind, fleet)?.replaceAll(dag, "{dag}");
    if (reason) dags.set(reason, [...(dags.get(reason) ?? []), dag]);
  }
  return [...dags].map(([reason, ids]) => reason.replaceAll("{dag}", ids.join(", ")));
}

function reasonAgainst(kind, fleet) {
  const action = fleet.actions.find((one) => one.kind === kind.kind);
  if (!action) return missing([kind], fleet.name);
  if (!action.allowed) return action.reason;
  return WITHOUT_HOSTS.has(kind.kind) || fleet.hosts.length ? null : "There is no host yet";
}

function Confirmation({ cancel, shown, action, fleet, hosts, onClose, onStarted }) {
  // What the dialog's body decides: {conf, hosts, verb}; null while something is missing.
  const [order, setOrder] = useState(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const go = async () => {
    setBusy(true);
    try {
      onStarted(await startRun(action.dag_id, order.conf, "Asked for on the page Model fleet"));
    } catch (refused) {
      setError(refused);
      setBusy(false);
    }
  };
  return h(Fragment, null,
    h(Dialog.Header, null, h(Dialog.Title, null, `${shown.text}: ${fleet.name}`)),
    h(Dialog.Body, null, h(Stack, { gap: 4 },
      fleet.rollout?.running && h(Notice, { status: "warning", title: `A ${fleet.rollout.kind} is running` },
        "A host that it works on refuses this one until it has ended. To end it now, mark ",
        h(RunLink, { dagId: fleet.rollout.dag_id, runId: fleet.rollout.run_id, color: "inherit" }, "its run"),
        " as failed: it switches no further host, and one that is not proved yet goes back."),
      h(shown.Body, { fleet, hosts, onOrder: setOrder }),
      error && h(Notice, { status: "error", title: "Airflow did not take it" },
        error.status === 403 ? `You may not start runs of ${action.dag_id}. Ask an administrator, or somebody who may.` : error.message),
      h(Text, { fontSize: "xs", color: "fg.muted" }, `This starts a run of the DAG ${action.dag_id}.`))),
    h(Dialog.Footer, null,
      h(Button, { ref: cancel, variant: "outline", onClick: onClose }, "Cancel"),
      h(Button, { colorPalette: shown.palette, loading: busy, disabled: !order, onClick: go }, order ? order.verb : shown.text)));
}

const names = (hosts) => hosts.map((host) => host.target);

/** Tells the dialog what would be ordered, whenever it changes. */
function useOrder(onOrder, order) {
  const text = JSON.stringify(order);
  const [told, tell] = useState();
  if (told !== text) {
    tell(text);
    queueMicrotask(() => onOrder(order));
  }
}

const Moves = ({ moves }) =>
  h(Stack, { as: "ul", gap: 1, pl: 4, listStyleType: "disc" }, moves.map(([key, children]) => h("li", { key }, children)));

/** From which release to which, by key, and the hosts of it; first those that undo the last deploy. */
function movesBack(able, rollout) {
  const moves = new Map();
  for (const host of able) {
    const key = `${host.release ?? ""} ${host.previous}`;
    const undoes = Boolean(rollout?.release) && host.release === rollout.release;
    const move = moves.get(key) ?? { key, undoes, hosts: [] };
    move.hosts.push(host);
    moves.set(key, move);
  }
  return [...moves.values()].sort((one, other) => other.undoes - one.undoes || other.hosts.length - one.hosts.length);
}

/** Of a fleet that the last deploy reached in part, only what has its release: the others have nothing to undo. */
const firstChosen = (moves) => {
  const undoing = moves.filter(({ undoes }) => undoes);
  return new Set((undoing.length ? undoing : moves).map(({ key }) => key));
};

function RollbackBody({ fleet, hosts, onOrder }) {
  const able = hosts.filter((host) => host.previous && !host.pinned);
  const pinned = hosts.filter((host) => host.pinned).length;
  const stuck = hosts.length - able.length - pinned;
  const moves = movesBack(able, fleet.rollout);
  const [chosen, setChosen] = useState(() => firstChosen(moves));
  const going = moves.filter(({ key }) => chosen.has(key)).flatMap((move) => move.hosts);
  useOrder(onOrder, going.length ? { conf: { hosts: names(going) }, verb: `Roll back ${count(going.length, "host")}` } : null);
  const toggle = (key, on) => setChosen((old) => new Set(on ? [...old, key] : [...old].filter((one) => one !== key)));
  return h(Stack, { gap: 3 },
    h(Text, null, able.length ? "Each host goes back to the release that was proved healthy on it before, wave by wave, without a canary:" : "None of these hosts can go back."),
    moves.map((move) => h(Move, {
      ...move, chosen: chosen.has(move.key), alone: moves.length === 1, apart: moves[0].undoes && !move.undoes, onChange: (on) => toggle(move.key, on),
    })),
    h(Moves, { moves: [
      ...(stuck ? [["stuck", `${count(stuck, "host")} had no healthy release before and ${stuck === 1 ? "stays" : "stay"} as ${stuck === 1 ? "it is" : "they are"}`]] : []),
      ...(pinned ? [["pinned", `${count(pinned, "pinned host")} ${pinned === 1 ? "stays" : "stay"}`]] : []),
    ] }));
}

function Move({ hosts, chosen, alone, apart, onChange }) {
  const [{ release, previous }] = hosts;
  const told = h("span", null, `${count(hosts.length, "host")}: `, h(Release, { release }), " → ", h(Release, { release: previous }),
    apart && h(Text, { as: "span", display: "block", color: "fg.muted", fontSize: "xs" }, "not on the release of the last deploy"));
  if (alone) return told;
  return h(Checkbox.Root, { checked: chosen, colorPalette: "brand", onCheckedChange: (change) => onChange(change.checked === true) },
    h(Checkbox.HiddenInput), h(Checkbox.Control), h(Checkbox.Label, null, told));
}

function DeployBody({ fleet, hosts, onOrder }) {
  const known = [...new Set([...fleet.hosts.flatMap((host) => [host.release, host.previous]), fleet.rollout?.release].filter(Boolean))].sort().reverse();
  const [release, setRelease] = useState("latest");
  const text = release.trim();
  const able = hosts.filter((host) => !host.pinned || host.pinned === text);
  const there = able.filter((host) => host.release === text).length;
  const pinned = hosts.length - able.length;
  const orderable = text && (able.length || !fleet.hosts.length);
  useOrder(onOrder, orderable
    ? { conf: { release: text, ...(able.length ? { hosts: names(able) } : {}) }, verb: able.length ? `Deploy to ${count(able.length, "host")}` : "Deploy" }
    : null);
  return h(Stack, { gap: 3 },
    h(Field.Root, { required: true },
      h(Field.Label, null, "Release"),
      h(Input, { value: release, list: "fleet-releases", fontFamily: "mono", onChange: (event) => setRelease(event.target.value) }),
      h("datalist", { id: "fleet-releases" }, ["latest", "champion", "candidate", ...known].map((one) => h("option", { key: one, value: one }))),
      h(Field.HelperText, null, "A release's id, \"latest\" for the newest in the store, or a channel of the store.")),
    h(Moves, { moves: [
      able.length
        ? ["able", `${count(able.length - there, "host")} will be staged first, then switched wave by wave; one that does not serve the release goes back by itself`]
        : ["first", OF_THE_FORM],
      ...(there ? [["there", `${count(there, "host")} ${there === 1 ? "has" : "have"} it already`]] : []),
      ...(pinned ? [["pinned", `${count(pinned, "host")} pinned to another release ${pinned === 1 ? "is" : "are"} left out`]] : []),
    ] }));
}

function PinBody({ hosts, onOrder }) {
  const [mode, setMode] = useState(hosts.every((host) => host.pinned) ? "unpin" : "pin");
  const able = hosts.filter((host) => (mode === "pin" ? host.release && host.pinned !== host.release : host.pinned));
  useOrder(onOrder, able.length ? { conf: { hosts: names(able), pin: mode === "pin" }, verb: `${mode === "pin" ? "Pin" : "Unpin"} ${count(able.length, "host")}` } : null);
  return h(Stack, { gap: 3 },
    h(Select, { label: "What to do", value: mode, onChange: setMode, options: [["pin", "Pin each host to the release that it has"], ["unpin", "Unpin"]] }),
    h(Text, null, mode === "pin"
      ? `${count(able.length, "host")} will keep the release that ${able.length === 1 ? "it has" : "they have"}, whatever is deployed, until unpinned. Nothing is switched.`
      : `${count(able.length, "host")} will take part in rollouts again. Nothing is switched now.`));
}

function AuditBody({ hosts, onOrder }) {
  const [repair, setRepair] = useState(false);
  const told = hosts.length ? count(hosts.length, "host") : "each host";
  useOrder(onOrder, hosts.length ? { conf: { hosts: names(hosts), repair }, verb: `Audit ${told}` } : { conf: { repair }, verb: "Audit" });
  return h(Stack, { gap: 3 },
    h(Text, null, `Every file of the live release on ${told} is read and hashed again, the host is probed, and what differs from what this page says is reported.`),
    !hosts.length && h(Text, null, `${OF_THE_FORM}.`),
    h(Checkbox.Root, { checked: repair, colorPalette: "brand", onCheckedChange: (change) => setRepair(change.checked === true) },
      h(Checkbox.HiddenInput), h(Checkbox.Control), h(Checkbox.Label, null, "Repair hosts that drifted")),
    !repair && h(Text, { color: "fg.muted", fontSize: "sm" }, "Nothing is changed on any host."));
}
