// All models, each fleet at one look.
import { Badge, Box, Card, HStack, Heading, Link, Nothing, ReactRouterDOM, SimpleGrid, Stack, Text, h } from "./element.js";
import { Release, ShareBar, StateBadge, When, healthParts } from "./parts.js";
import { count, palettesOf } from "./words.js";

export function Models({ models }) {
  if (!models.length) {
    return h(Nothing, { title: "No model yet" },
      "A model appears here when a DAG has its asset as an outlet, such as outlets=[Asset(\"hybrid://model/digits\")] "
      + "of the deploy task, and Airflow has read that DAG. OnPremDeployOperator has it by itself.");
  }
  return h(SimpleGrid, { as: "ul", listStyleType: "none", columns: { base: 1, md: 2, xl: 3 }, gap: 4 },
    models.map((model) => h(Box, { as: "li", key: model.name }, h(ModelCard, { model }))));
}

function ModelCard({ model }) {
  const { name, summary, rollout } = model;
  const palettes = palettesOf(summary.releases.map(({ release }) => release ?? ""));
  const live = summary.releases[0];
  return h(Card.Root, { height: "full", position: "relative", _hover: { borderColor: "brand.emphasized" } },
    h(Card.Body, { gap: 3 },
      h(HStack, { justify: "space-between" },
        h(Heading, { size: "md", as: "h2" },
          // The whole card is the link's.
          h(Link, { asChild: true, _before: { content: '""', position: "absolute", inset: 0 } },
            h(ReactRouterDOM.Link, { to: `?model=${encodeURIComponent(name)}` }, name))),
        rollout?.running
          ? h(Badge, { colorPalette: "running" }, `${rollout.kind} running`)
          : summary.unhealthy ? h(Badge, { colorPalette: "failed" }, `${summary.unhealthy} unhealthy`) : null),
      summary.hosts
        ? h(Stack, { gap: 3 },
            h(Text, { color: "fg.muted", fontSize: "sm" }, `${count(summary.hosts, "host")}, ${summary.healthy.toLocaleString()} healthy`),
            h(ShareBar, { parts: healthParts(summary), label: `${summary.healthy} of ${summary.hosts} hosts are healthy` }),
            h(Stack, { gap: 1 },
              h(Text, { fontSize: "xs", color: "fg.muted" }, "Most hosts have"),
              h(HStack, { justify: "space-between" },
                h(Release, { release: live.release }), h(Text, { fontSize: "xs", color: "fg.muted" }, `${live.hosts.toLocaleString()} of ${summary.hosts.toLocaleString()}`))),
            summary.releases.length > 1 && h(ShareBar, {
              label: `${count(summary.releases.length, "release")} in the fleet`,
              parts: summary.releases.map(({ release, hosts }) => ({ label: release ?? "no release", palette: palettes.get(release ?? ""), hosts })),
            }))
        : h(Text, { color: "fg.muted", fontSize: "sm" }, "No host yet: deploy a release to it."),
      rollout && h(HStack, { fontSize: "xs", color: "fg.muted", mt: "auto" },
        h(StateBadge, { kind: rollout.kind, state: rollout.state }), h("span", null, rollout.kind), h(When, { iso: rollout.updated }))));
}
