// What the page asks of the server: its own routes, which only read, and Airflow's REST API for runs of DAGs.
import { useCallback, useEffect, useRef, useState } from "./element.js";

// <base href> is [api] base_url, with its path.
const url = (path) => new URL(path, document.baseURI).href;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answered(response) {
  if (response.ok) return response;
  const detail = await response.json().then((body) => body.detail, () => null);
  throw new Refused(response.status, typeof detail === "string" ? detail : JSON.stringify(detail ?? response.statusText));
}

/** A route's answer; without the value where it still is what has this tag, so that nobody parses a thousand hosts again. */
export async function read(path, known = null) {
  const response = await answered(await fetch(url(path), { headers: { Accept: "application/json" } }));
  const tag = response.headers.get("ETag");
  return tag && tag === known ? { tag } : { tag, value: await response.json() };
}

const early = new Map();

/** Asks for a route before React has drawn anything; the first who wants it has its answer. */
export function readEarly(path) {
  const answer = read(path);
  answer.catch(() => null);
  early.set(path, answer);
}

function readFirst(path, known) {
  const answer = early.get(path) ?? read(path, known);
  early.delete(path);
  return answer;
}

export const MODELS = "hybrid_fleet/models";
export const modelPath = (name) => `${MODELS}/${encodeURIComponent(name)}`;

const runsPath = (dagId) => `api/v2/dags/${encodeURIComponent(dagId)}/dagRuns`;
export const runPath = ({ dag_id: dagId, dag_run_id: runId }) => `${runsPath(dagId)}/${encodeURIComponent(runId)}`;

/** Asks for a run of a DAG, as the Trigger button does, so that the DAG's permissions hold. */
export async function startRun(dagId, conf, note) {
  const response = await fetch(url(runsPath(dagId)), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ logical_date: null, conf, note }),
  });
  return (await answered(response)).json();
}

/** A route's answer, asked for again every so many seconds while somebody looks; of no route there is none. */
export function usePolled(path, seconds) {
  const [state, setState] = useState({ path });
  const [asked, setAsked] = useState(0);
  const tag = useRef(null);

  useEffect(() => {
    if (path === null) return undefined;
    let gone = false;
    const ask = async () => {
      try {
        const known = tag.current?.path === path ? tag.current.tag : null;
        const answer = await readFirst(path, known);
        if (gone) return;
        tag.current = { path, tag: answer.tag };
        // The same value lets React skip a thousand rows.
        setState((old) => ({ path, error: null, at: Date.now(), value: "value" in answer ? answer.value : old.value }));
      } catch (error) {
        if (!gone) setState((old) => ({ ...(old.path === path ? old : { path }), error }));
      }
    };
    ask();
    const timer = setInterval(() => document.hidden || ask(), seconds * 1000);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [path, seconds, asked]);

  const refresh = useCallback(() => setAsked((count) => count + 1), []);
  return { ...(state.path === path ? state : {}), refresh };
}
