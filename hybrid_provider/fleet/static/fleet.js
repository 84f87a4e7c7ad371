// The page "Model fleet": which release runs where, since when, is it healthy, what changed, and the way back.
// Every module is named here, so that the browser asks for all of them at once instead of one level after another.
import "./actions.js";
import "./charts.js";
import "./history.js";
import "./host.js";
import "./hosts.js";
import "./rollout.js";
import "./started.js";
import "./words.js";
import { Box, Fragment, HStack, Heading, Notice, React, ReactRouterDOM, RouterLink, Skeleton, Stack, Text, h } from "./element.js";
import { MODELS, modelPath, readEarly, usePolled } from "./client.js";
import { Model } from "./model.js";
import { Models } from "./models.js";
import { Trouble } from "./parts.js";

const SECONDS_BETWEEN_LOOKS = 10;

function Fleet() {
  const [search] = ReactRouterDOM.useSearchParams();
  const name = search.get("model");

  return h(Box, { as: "section", "aria-label": "Model fleet", p: { base: 2, md: 4 }, height: "full", overflowY: "auto" },
    h(Stack, { gap: 4, maxW: "8xl", mx: "auto" },
      h(HStack, { as: "nav", "aria-label": "Where you are", gap: 2 },
        name
          ? [h(RouterLink, { key: "all", to: "/plugin/model-fleet", fontSize: "lg" }, "Model fleet"),
             h(Text, { key: "sep", color: "fg.muted", "aria-hidden": true }, "/"),
             h(Heading, { key: "name", size: "lg", as: "h1" }, name)]
          : h(Heading, { size: "lg", as: "h1" }, "Model fleet")),
      name ? h(Model, { key: name, name }) : h(List)));
}

function List() {
  const list = usePolled(MODELS, SECONDS_BETWEEN_LOOKS);
  return h(Fragment, null,
    h(Trouble, { answer: list }),
    !list.value && !list.error && h(Skeleton, { height: "40", role: "status", "aria-label": "Loading the models" }),
    list.value && h(Models, { models: list.value.models }));
}

/** An error of ours must not take Airflow's shell away. */
class Page extends React.Component {
  state = { error: null };

  static getDerivedStateFromError(error) {
    return { error };
  }

  render() {
    const { error } = this.state;
    if (!error) return h(Fleet);
    return h(Notice, { status: "error", title: "The page could not be drawn", m: 4 },
      `${error.message}. Load it again; if it stays, report it with the release of airflow-provider-hybrid.`);
  }
}

globalThis.AirflowPlugin = Page;

// The shell takes its time until it draws the page.
if (location.pathname.endsWith("/plugin/model-fleet")) {
  const model = new URLSearchParams(location.search).get("model");
  readEarly(model ? modelPath(model) : MODELS);
  // React holds on to the shell's spinner for 300 ms, whatever has come meanwhile, unless something else draws
  // the page: the router, when it hears that the address is what it is. It looks for the page by the plugin's name.
  globalThis["Model fleet"] = Page;
  window.dispatchEvent(new PopStateEvent("popstate", { state: window.history.state }));
}
