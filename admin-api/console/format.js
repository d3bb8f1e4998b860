// Numbers, sizes and times as people read them. Everything takes what the API says, and a dash stands for what it does not say.

export const NONE = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 12,345 */
export const count = (value) => (isNumber(value) ? whole.format(value) : NONE);

/** At most three digits that matter. */
export const figure = (value) => (isNumber(value) ? (Math.abs(value) >= 100 ? whole : short).format(value) : NONE);

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** 12K, for narrow places. */
export const brief = (value) => (isNumber(value) ? compact.format(value) : NONE);

/** 12.3/s */
export const rate = (value) => (isNumber(value) ? `${figure(value)}/s` : NONE);

/** 1.5 KiB */
export function bytes(value) {
  if (!isNumber(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${figure(value)} ${units[unit]}`;
}

/** 1.2 ms */
export const milliseconds = (value) => (isNumber(value) ? (value >= 1000 ? `${figure(value / 1000)} s` : `${figure(value)} ms`) : NONE);

const two = (number) => String(number).padStart(2, "0");

/** 2026-11-22 21:30:05, in the zone of whoever reads. */
export function time(value) {
  const date = value === undefined || value === null ? undefined : new Date(value);
  if (!date || Number.isNaN(date.getTime())) return NONE;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(date)}`;
}

/** The same without the day, if it is today's. */
export function shortTime(value, now = new Date()) {
  const text = time(value);
  return text.startsWith(time(now).slice(0, 11)) ? text.slice(11) : text;
}

/** 21:30:05 */
export const clock = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;

/** 3 min ago, in 2 h */
export function ago(value, now = Date.now()) {
  const then = value === undefined || value === null ? NaN : new Date(value).getTime();
  if (Number.isNaN(then)) return NONE;
  const text = span(Math.abs(now - then));
  return then > now + 1000 ? `in ${text}` : `${text} ago`;
}

/** A length of time in its largest unit. */
export function span(ms) {
  const steps = [[86_400_000, "d"], [3_600_000, "h"], [60_000, "min"], [1000, "s"]];
  for (const [size, unit] of steps) if (ms >= size) return `${Math.floor(ms / size)} ${unit}`;
  return "0 s";
}

/** The time that an `<input type="datetime-local">` shows, as the API takes it. */
export function fromLocal(value) {
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

/** `published_at` becomes "Published at". */
export function words(name) {
  const text = String(name).replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Whether a text is a time as the API writes one. */
export const isTime = (value) => typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(value);
