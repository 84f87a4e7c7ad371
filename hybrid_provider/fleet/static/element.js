// React and Chakra as Airflow's UI shares them: the page is drawn in its shell, by its theme, without a build.
export const { React, ChakraUI, ReactRouterDOM } = globalThis;

export const h = React.createElement;
export const { Fragment, useCallback, useEffect, useMemo, useRef, useState } = React;
export const {
  Alert, Badge, Box, Button, Card, Checkbox, Dialog, Drawer, EmptyState, Field, Flex, Grid, Heading, HStack, Input,
  Link, NativeSelect, Portal, SimpleGrid, Skeleton, Spinner, Stack, Table, Tabs, Text, VStack, VisuallyHidden, chakra,
} = ChakraUI;

/** A link inside Airflow's UI, which changes the page without loading it anew. */
export const RouterLink = ({ to, children, ...rest }) =>
  h(Link, { asChild: true, colorPalette: "brand", variant: "underline", ...rest }, h(ReactRouterDOM.Link, { to }, children));

/** The run behind something, or a dash. */
export const RunLink = ({ dagId, runId, children, ...rest }) =>
  dagId && runId
    ? h(RouterLink, { ...rest, to: `/dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}` }, children ?? dagId)
    : h(Text, { as: "span", color: "fg.muted" }, "–");

/** A select of [value, label] pairs. */
export const Select = ({ label, value, onChange, options, ...rest }) =>
  h(NativeSelect.Root, { size: "sm", width: "auto", ...rest },
    h(NativeSelect.Field, { "aria-label": label, value, onChange: (event) => onChange(event.target.value) },
      options.map(([option, text]) => h("option", { key: option, value: option }, text))),
    h(NativeSelect.Indicator));

/** Says what is the matter and what to do about it. */
export const Notice = ({ status, title, children, ...rest }) =>
  h(Alert.Root, { status, role: status === "error" ? "alert" : "status", ...rest }, h(Alert.Indicator),
    h(Alert.Content, null, h(Alert.Title, null, title), children && h(Alert.Description, null, children)));

export const Nothing = ({ title, children }) =>
  h(EmptyState.Root, { borderWidth: "1px", borderRadius: "lg", borderStyle: "dashed" },
    h(EmptyState.Content, null,
      h(VStack, { textAlign: "center", maxW: "2xl" },
        h(EmptyState.Title, null, title),
        h(EmptyState.Description, null, children))));
