// How states, times and releases are written; one palette for one meaning.
const GOOD = new Set(["SUCCEEDED", "ALREADY_CURRENT", "Completed", "IN_SYNC"]);
const BAD = new Set(["FAILED", "FAILED_NO_CHANGE", "REVERT_FAILED", "ROLLBACK_PAUSED", "Failed", "DRIFTED", "DRIFT"]);
const WARY = new Set(["UNREACHABLE", "LOCKED", "REVERTED", "PAUSED", "ABORTED", "ROLLED_BACK", "REVERTING", "ROLLING_BACK", "Stopped"]);
const IDLE = new Set(["PENDING", "READY", "", null, undefined]);
const STAGED = new Set(["VERIFIED"]);

/** The theme's palette for the state of a host, a rollout or a training. */
export function paletteOf(state) {
  if (GOOD.has(state)) return "success";
  if (BAD.has(state)) return "failed";
  if (WARY.has(state)) return "orange";
  if (STAGED.has(state)) return "purple";
  return IDLE.has(state) ? "gray" : "running";
}

/** A rollback that has rolled back is where it was to go; a deploy that has is not. */
export const outcomeOf = (kind, state) => (kind === "rollback" && state === "ROLLED_BACK" ? "SUCCEEDED" : state);

/** FAILED_NO_CHANGE as "failed, no change". */
export const inWords = (state) => (state ? state.toLowerCase().replace("_no_change", ", no change").replaceAll("_", " ") : "unknown");

export const HEALTH = {
  true: { word: "healthy", palette: "success" },
  false: { word: "unhealthy", palette: "failed" },
  null: { word: "not probed", palette: "gray" },
};

export const healthOf = (host) => HEALTH[String(host.healthy ?? null)];

/** Why somebody should look at a host, null where nobody need. */
export const ails = (host) => host.error ?? (host.healthy === false ? host.probe || "its probe fails" : null);

const STEPS = [[60, "s"], [60, "min"], [24, "h"], [Infinity, "d"]];

/** Seconds in the two units that matter: "3 min 4 s". */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  const parts = [];
  let left = Math.round(seconds);
  for (const [size, unit] of STEPS) {
    const part = size === Infinity ? left : left % size;
    if (part) parts.unshift(`${part} ${unit}`);
    left = size === Infinity ? 0 : Math.floor(left / size);
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

/** An ISO date as "3 min ago"; a dash where there is none. */
export function ago(iso, now = Date.now()) {
  const then = iso ? Date.parse(iso) : NaN;
  if (Number.isNaN(then)) return "–";
  const seconds = (now - then) / 1000;
  return seconds < 5 ? "just now" : `${duration(Math.floor(seconds)).split(" ").slice(0, 2).join(" ")} ago`;
}

// Made once: to make one takes longer than to draw a row.
const MOMENT = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
});
const MINUTE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

export const exactly = (iso) => (iso && !Number.isNaN(Date.parse(iso)) ? MOMENT.format(new Date(iso)) : "");

/** The two halves of a release's id: when it was created, and the beginning of its digest. */
export function halves(release) {
  const cut = release.lastIndexOf("-");
  return cut > 0 ? [release.slice(0, cut), release.slice(cut + 1)] : [release, ""];
}

/** 20261116T043000Z-… as "16 Nov 2026, 04:30"; the id itself where it has another form. */
export function createdOf(release) {
  const found = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/.exec(release);
  if (!found) return release;
  const [, year, month, day, hour, minute, second] = found.map(Number);
  return MINUTE.format(new Date(Date.UTC(year, month - 1, day, hour, minute, second)));
}

export const count = (number, noun) => `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;

/** A number with as many digits as tell releases apart. */
export const measure = (value) => Number(Number(value).toPrecision(4)).toString();

// Enough colours for the releases that a fleet has at one time; older ones share the last.
const SERIES = ["blue", "teal", "purple", "orange", "pink", "cyan", "lime", "gray"];

/** A palette for each release, the newest first. */
export function palettesOf(releases) {
  const sorted = [...new Set(releases)].sort().reverse();
  return new Map(sorted.map((release, index) => [release, SERIES[Math.min(index, SERIES.length - 1)]]));
}
