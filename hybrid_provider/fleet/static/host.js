// Everything that is known of one host, at the side.
import { Box, Drawer, HStack, Notice, Portal, RunLink, Stack, Text, chakra, h } from "./element.js";
import { Health, Release, StateBadge, When } from "./parts.js";
import { exactly } from "./words.js";

const Row = ({ label, children }) =>
  h(Box, null, h(Text, { as: "dt", fontSize: "xs", color: "fg.muted" }, label), h(Box, { as: "dd", wordBreak: "break-word" }, children));

export function HostDrawer({ host, onClose }) {
  return h(Drawer.Root, { open: Boolean(host), onOpenChange: (change) => change.open || onClose(), size: "sm" },
    h(Portal, null, h(Drawer.Backdrop), h(Drawer.Positioner, null, host && h(Drawer.Content, null,
      h(Drawer.Header, null, h(Drawer.Title, null, host.target)),
      h(Drawer.Body, null,
        host.error && h(Notice, { status: "error", title: "It is not as it should be", mb: 4 }, host.error),
        h(Stack, { as: "dl", gap: 4 },
        h(Row, { label: "State" }, h(HStack, null, h(StateBadge, { state: host.state }), h(Health, { host }))),
        h(Row, { label: "Release" }, h(Release, { release: host.release })),
        h(Row, { label: "Digest" }, h(chakra.code, { fontFamily: "mono", fontSize: "xs" }, host.digest ?? "–")),
        h(Row, { label: "Live since" }, h(When, { iso: host.since }), " ", h(Text, { as: "span", color: "fg.muted", fontSize: "sm" }, exactly(host.since))),
        h(Row, { label: "Release to go back to" }, h(Release, { release: host.previous })),
        h(Row, { label: "Pinned to" }, host.pinned ? h(Release, { release: host.pinned }) : "not pinned"),
        h(Row, { label: "Group" }, host.group ?? "–"),
        h(Row, { label: "Last probe" }, host.probe ?? "–", host.probed ? h(Text, { as: "span", color: "fg.muted", fontSize: "sm" }, " ", h(When, { iso: host.probed })) : null),
        h(Row, { label: "Last rollout" }, host.rollout ?? "–"),
        h(Row, { label: "Its run" }, h(RunLink, { dagId: host.dag_id, runId: host.run_id }, host.run_id)))),
      h(Drawer.CloseTrigger, { asChild: true }, h(chakra.button, { type: "button", "aria-label": "Close", p: 2 }, "✕"))))));
}
