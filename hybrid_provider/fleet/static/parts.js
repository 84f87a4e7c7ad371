// The small things that every part of the page shows.
import { Badge, Box, Button, Flex, HStack, Notice, Text, chakra, h } from "./element.js";
import { ago, createdOf, exactly, halves, healthOf, inWords, outcomeOf, paletteOf } from "./words.js";

export const StateBadge = ({ kind, state, ...rest }) =>
  h(Badge, { colorPalette: paletteOf(outcomeOf(kind, state)), variant: "subtle", ...rest }, inWords(state));

export const Dot = ({ palette, ...rest }) =>
  h(Box, { "aria-hidden": true, bg: `${palette}.solid`, borderRadius: "full", boxSize: "2.5", flexShrink: 0, ...rest });

/** A release's id in full, its digest set back; the date it was made is the tooltip. */
export function Release({ release, ...rest }) {
  if (!release) return h(Text, { as: "span", color: "fg.muted", ...rest }, "no release");
  const [created, digest] = halves(release);
  return h(chakra.span, { fontFamily: "mono", fontSize: "xs", whiteSpace: "nowrap", title: createdOf(release), ...rest },
    created, digest && h(chakra.span, { color: "fg.muted" }, `-${digest}`));
}

export const When = ({ iso, ...rest }) =>
  h(chakra.time, { dateTime: iso ?? undefined, title: exactly(iso), whiteSpace: "nowrap", ...rest }, ago(iso));

export function Health({ host }) {
  const { word, palette } = healthOf(host);
  return h(HStack, { gap: 2, title: host.probe ?? undefined }, h(Dot, { palette }), h("span", null, word));
}

/** Shares of a whole as one bar; each part is {palette, hosts, label}. */
export function ShareBar({ parts, label, whole, ...rest }) {
  const total = whole || parts.reduce((sum, part) => sum + part.hosts, 0) || 1;
  return h(Flex, { role: "img", "aria-label": label, borderRadius: "full", overflow: "hidden", h: "2", bg: "bg.emphasized", gap: "2px", ...rest },
    parts.filter((part) => part.hosts).map((part) =>
      h(Box, { key: part.label, title: `${part.label}: ${part.hosts}`, bg: `${part.palette}.solid`, width: `${(100 * part.hosts) / total}%`, minW: "3px" })));
}

export const healthParts = (summary) => [
  { label: "healthy", palette: "success", hosts: summary.healthy },
  { label: "not probed", palette: "gray", hosts: summary.unknown },
  { label: "unhealthy", palette: "failed", hosts: summary.unhealthy },
];

export const Fact = ({ label, children, help }) =>
  h(Box, { borderWidth: "1px", borderRadius: "lg", px: 4, py: 3, minW: 0, bg: "bg.panel" },
    h(Text, { as: "dt", color: "fg.muted", fontSize: "xs" }, label),
    h(Box, { as: "dd", fontSize: "lg", fontWeight: "semibold", minW: 0 }, children),
    help && h(Box, { as: "dd", color: "fg.muted", fontSize: "xs", minW: 0 }, help));

/** What went wrong with the last look, and what to do; what was seen before stays. */
export function Trouble({ answer }) {
  const { error, at, refresh } = answer;
  if (!error) return null;
  const again = h(Button, { size: "xs", variant: "outline", onClick: refresh, ml: 2 }, "Try again");
  const seen = at ? ` What you see is of ${new Date(at).toLocaleTimeString()}.` : "";
  if (error.status === 401) {
    return h(Notice, { status: "error", title: "You are not logged in any more" }, "Load the page again to log in.", seen,
      h(Button, { size: "xs", variant: "outline", onClick: () => location.reload(), ml: 2 }, "Load it again"));
  }
  if (error.status === 403) {
    return h(Notice, { status: "error", title: "You may not see the fleet" },
      "It is shown to those who may read assets; ask an administrator of Airflow for that permission.");
  }
  return h(Notice, { status: "error", title: "The fleet could not be read" },
    error.status
      ? `The server answered ${error.status}: ${error.message}. Its own log says why; the page asks again by itself.`
      : "The API server does not answer. Look at your network and at the server; the page asks again by itself.",
    seen, again);
}
