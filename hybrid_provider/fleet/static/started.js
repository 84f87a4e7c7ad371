// What became of a run that a button has asked for: Airflow's word for it, until it has ended.
import { Notice, RunLink, h, useEffect, useState } from "./element.js";
import { runPath, usePolled } from "./client.js";

const SECONDS_BETWEEN_LOOKS = 2;
const UNDER_WAY = { status: "info", title: "was asked for", rest: ". The hosts change below as it goes on." };
const ENDS = {
  success: { status: "success", title: "is done", rest: "." },
  failed: { status: "error", title: "has failed", rest: "; the log of its task says why. The hosts are shown as it left them." },
};

export function Started({ run, onEnded }) {
  const [end, setEnd] = useState(null);
  const { value } = usePolled(end ? null : runPath(run), SECONDS_BETWEEN_LOOKS);
  if (!end && ENDS[value?.state]) setEnd(ENDS[value.state]);
  useEffect(() => {
    if (end) onEnded();
  }, [end]);

  const { status, title, rest } = end ?? UNDER_WAY;
  return h(Notice, { status, title: `${run.what} ${title}` },
    "Its run is ", h(RunLink, { dagId: run.dag_id, runId: run.dag_run_id }, run.dag_run_id), rest);
}
