// One model: its facts, the buttons, the rollout, the hosts and the history.
import { Button, Flex, Fragment, Grid, HStack, Nothing, Notice, RouterLink, RunLink, Skeleton, Stack, Tabs, Text, VisuallyHidden, h, useMemo, useState } from "./element.js";
import { Actions } from "./actions.js";
import { Charts } from "./charts.js";
import { modelPath, usePolled } from "./client.js";
import { History } from "./history.js";
import { Hosts, NO_FILTER } from "./hosts.js";
import { Dot, Fact, Release, ShareBar, StateBadge, When, healthParts, Trouble } from "./parts.js";
import { Rollout, told } from "./rollout.js";
import { Started } from "./started.js";
import { ails, count, inWords, palettesOf } from "./words.js";

const WHILE_IT_RUNS = 2;
const OTHERWISE = 10;
const TABS = [["hosts", "Hosts"], ["history", "Rollouts and releases"], ["charts", "Charts"]];

export function Model({ name }) {
  const [seconds, setSeconds] = useState(OTHERWISE);
  const fleet = usePolled(modelPath(name), seconds);
  const [selected, setSelected] = useState(new Set());
  const [filter, setFilter] = useState(NO_FILTER);
  const [started, setStarted] = useState(null);
  const [ended, setEnded] = useState(null);
  const value = fleet.value;
  const running = Boolean(value?.rollout?.running);
  const wanted = running || started !== ended ? WHILE_IT_RUNS : OTHERWISE;
  if (wanted !== seconds) setSeconds(wanted);

  const [tab, setTab] = useState(() => new URLSearchParams(location.search).get("tab") ?? "hosts");
  const showTab = (next) => {
    setTab(next);
    const address = new URL(location.href);
    address.searchParams.set("tab", next);
    // Not through the router, which would draw all of Airflow's shell again.
    history.replaceState(history.state, "", address);
  };

  const show = (filter) => {
    setFilter({ ...NO_FILTER, ...filter });
    showTab("hosts");
  };

  const palettes = useMemo(() => palettesOf((value?.summary.releases ?? []).map(({ release }) => release ?? "")), [value]);

  if (fleet.error?.status === 404) {
    return h(Notice, { status: "warning", title: `There is no model ${name}` },
      "No DAG has its asset as an outlet now. ", h(RouterLink, { to: "/plugin/model-fleet" }, "See all models"));
  }
  if (!value) return fleet.error ? h(Trouble, { answer: fleet }) : h(Skeleton, { height: "64", role: "status", "aria-label": "Loading the hosts" });
  return h(Stack, { gap: 4 },
    h(Trouble, { answer: fleet }),
    h(Facts, { fleet: value, palettes, onShow: (release) => show({ release }) }),
    h(Attention, { hosts: value.hosts, onShow: () => show({ shown: "attention" }) }),
    h(Actions, { fleet: value, selected, onStarted: (run) => { setStarted(run); fleet.refresh(); } }),
    started && h(Started, { key: started.dag_run_id, run: started, onEnded: () => { setEnded(started); fleet.refresh(); } }),
    // Here and not in the rollout, so that it is there before what it is to say.
    h(VisuallyHidden, { role: "status", "aria-live": "polite" }, value.rollout ? told(value.rollout) : ""),
    value.rollout && h(Rollout, { rollout: value.rollout }),
    h(Tabs.Root, { value: tab, onValueChange: (change) => showTab(change.value), lazyMount: true, colorPalette: "brand", variant: "line" },
      h(Tabs.List, null, TABS.map(([key, text]) => h(Tabs.Trigger, { key, value: key }, text))),
      h(Tabs.Content, { value: "hosts" },
        value.hosts.length
          ? h(Hosts, { hosts: value.hosts, summary: value.summary, selected, onSelect: setSelected, filter, setFilter })
          : h(Nothing, { title: "No host yet" },
              "A host appears when a rollout or an audit has touched it. Press \"Deploy a release\", or \"Audit\" where hosts have one already.")),
      h(Tabs.Content, { value: "history" }, h(History, { name })),
      h(Tabs.Content, { value: "charts" }, h(Charts, { name }))));
}

const NAMED = 3;

/** Which hosts are not as they should be, and why: what somebody who was woken looks for first. */
function Attention({ hosts, onShow }) {
  const ailing = hosts.filter(ails);
  if (!ailing.length) return null;
  return h(Notice, { status: "warning", title: `${count(ailing.length, "host")} ${ailing.length === 1 ? "needs" : "need"} attention` },
    h(Flex, { gap: 3, wrap: "wrap", align: "end", justify: "space-between" },
      h(Stack, { as: "ul", gap: 1, listStyleType: "none" },
        ailing.slice(0, NAMED).map((host) => h("li", { key: host.target }, h("strong", null, host.target), `, ${host.error ? inWords(host.state) : "unhealthy"}: ${ails(host)}`))),
      h(Button, { size: "xs", variant: "outline", onClick: onShow }, ailing.length > NAMED ? `Show all ${ailing.length.toLocaleString()}` : "Show in the list")));
}

/** Which releases the fleet has, the most frequent first; a press shows the hosts of one. */
function Releases({ summary, palettes, onShow }) {
  const named = summary.releases.slice(0, NAMED);
  const more = summary.releases.length - named.length;
  const rows = named.map(({ release, hosts }) => h("li", { key: release ?? "" },
    h(HStack, { as: "button", type: "button", "aria-label": `Show ${count(hosts, "host")} on ${release ?? "no release"}`, gap: 2, cursor: "pointer", maxW: "full", _hover: { textDecoration: "underline" }, onClick: () => onShow(release ?? "") },
      h(Dot, { palette: palettes.get(release ?? "") }), h(Release, { release, truncate: true }), h("span", null, hosts.toLocaleString()))));
  return h(Stack, { as: "ul", listStyleType: "none", gap: 0.5, mt: 1 }, rows, more > 0 && h("li", null, `and ${more} more`));
}

function Facts({ fleet, palettes, onShow }) {
  const { summary, rollout } = fleet;
  const [live] = summary.releases;
  return h(Grid, { as: "dl", gap: 3, templateColumns: { base: "1fr", md: "repeat(2, 1fr)", xl: "1.4fr 1fr 1.5fr 1fr" } },
    h(Fact, {
      label: "Release that most hosts have",
      help: live && `${live.hosts.toLocaleString()} of ${count(summary.hosts, "host")}`,
    }, live ? h(Release, { release: live.release, fontSize: "md" }) : "–"),
    h(Fact, {
      label: "Healthy",
      help: h(ShareBar, { mt: 2, parts: healthParts(summary), label: `${summary.healthy} of ${summary.hosts} hosts are healthy` }),
    }, `${summary.healthy.toLocaleString()} of ${summary.hosts.toLocaleString()}`),
    h(Fact, {
      label: "Releases in the fleet",
      help: h(Fragment, null,
        h(ShareBar, {
          mt: 2,
          label: `${count(summary.releases.length, "release")}`,
          parts: summary.releases.map(({ release, hosts }) => ({ label: release ?? "no release", palette: palettes.get(release ?? ""), hosts })),
        }),
        summary.releases.length > 1 && h(Releases, { summary, palettes, onShow })),
    }, summary.releases.length),
    h(Fact, {
      label: "Last change",
      help: rollout ? h(HStack, { gap: 2 }, h(StateBadge, { kind: rollout.kind, state: rollout.state, size: "xs" }), h(RunLink, { dagId: rollout.dag_id, runId: rollout.run_id }, rollout.kind)) : "nothing was rolled out",
    }, rollout ? h(When, { iso: rollout.updated }) : "–"));
}
