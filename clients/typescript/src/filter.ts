// Topic filters: MQTT's grammar. `+` stands for one level, a last `#` for the level before it and all below.

/** Whether the filter is a pattern and not the name of a single topic. */
export function isPattern(filter: string): boolean {
  return filter.includes("+") || filter.includes("#");
}

/** Whether the filter matches the topic. A wildcard in the first level matches no topic that begins with `$`. */
export function matches(filter: string, topic: string): boolean {
  if (topic.startsWith("$") && (filter.startsWith("+") || filter.startsWith("#"))) return false;
  const wanted = filter.split("/");
  const levels = topic.split("/");
  for (let i = 0; ; i += 1) {
    // Also where the topic has ended: `chat/#` matches `chat` (MQTT 5.0, 4.7.1.2).
    if (wanted[i] === "#") return true;
    if (i >= wanted.length || i >= levels.length) return wanted.length === levels.length;
    if (wanted[i] !== "+" && wanted[i] !== levels[i]) return false;
  }
}

/** Whether some topic could match both filters. Errs on the side of yes for topics that begin with `$`. */
export function overlaps(one: string, other: string): boolean {
  const left = one.split("/");
  const right = other.split("/");
  for (let i = 0; ; i += 1) {
    if (left[i] === "#" || right[i] === "#") return true;
    if (i >= left.length || i >= right.length) return left.length === right.length;
    if (left[i] !== "+" && right[i] !== "+" && left[i] !== right[i]) return false;
  }
}
