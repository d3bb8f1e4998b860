// Lines over time, drawn as SVG. What they say stands beside them in words, for whoever does not see them.

import { fresh, h, put, svg } from "./dom.js";

const HEIGHT = 150;
const LEFT = 48;
const BOTTOM = 20;
const TOP = 8;

/** Points of one line, at most: five minutes at one every two seconds. */
export const POINTS_MAX = 150;

/** Lines of one chart, at most. Of further ones only the sum is drawn. */
const LINES_MAX = 6;

/** The next number at or above that is easy to read: 1, 2 or 5 and zeros. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/**
 * A chart. `push(time, values)` adds one point to each line: `values` is a number by name, and a gap where there is none.
 * `unit` writes a number with its unit, `mark` the same in little space.
 */
export function chart(title, unit, mark = unit) {
  const lines = new Map();
  const times = [];
  const id = fresh("chart");
  const drawing = svg("svg", { height: HEIGHT, role: "img", "aria-labelledby": `${id}-title`, "aria-describedby": `${id}-words` });
  let width = 480;
  const plot = h("div", { class: "plot" }, drawing);
  const legend = h("ul", { class: "legend" });
  const summary = h("p", { class: "visually-hidden", id: `${id}-words` }, "No figures yet.");
  const element = h("figure", { class: "chart" }, h("figcaption", { id: `${id}-title` }, title), plot, legend, summary);

  function push(time, values) {
    times.push(time);
    for (const name of Object.keys(values)) {
      if (!lines.has(name) && (lines.size < LINES_MAX || name === "all")) lines.set(name, new Array(times.length - 1).fill(undefined));
    }
    for (const [name, points] of lines) points.push(Number.isFinite(values[name]) ? values[name] : undefined);
    if (times.length > POINTS_MAX) {
      times.shift();
      for (const points of lines.values()) points.shift();
    }
    // A node that has gone leaves with its last point.
    for (const [name, points] of lines) if (points.every((point) => point === undefined)) lines.delete(name);
    draw();
    describe();
  }

  function draw() {
    const most = ceiling(Math.max(0, ...[...lines.values()].flat().filter((point) => point !== undefined)));
    const x = (i) => LEFT + ((width - LEFT - 4) * (POINTS_MAX - times.length + i)) / (POINTS_MAX - 1);
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
    const grid = [0, 0.5, 1].map((share) => [
      svg("line", { class: "grid", x1: LEFT, x2: width, y1: y(most * share), y2: y(most * share) }),
      svg("text", { x: LEFT - 6, y: y(most * share) + 4, "text-anchor": "end" }, mark(most * share)),
    ]);
    const ages = [svg("text", { x: LEFT, y: HEIGHT - 4 }, "5 min ago"), svg("text", { x: width - 2, y: HEIGHT - 4, "text-anchor": "end" }, "now")];
    const paths = [...lines.values()].map((points, i) => svg("path", { class: `line line-${i + 1}`, d: path(points, x, y) }));
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    put(drawing, grid, ages, paths);
  }

  function path(points, x, y) {
    let d = "";
    let isDown = false;
    points.forEach((point, i) => {
      if (point !== undefined) d += `${isDown ? "L" : "M"}${x(i).toFixed(1)} ${y(point).toFixed(1)}`;
      // A single point would be invisible.
      if (point !== undefined && !isDown && points[i + 1] === undefined) d += "h1";
      isDown = point !== undefined;
    });
    return d;
  }

  function describe() {
    const names = [...lines.keys()];
    const item = (name, i) => h("li", {}, h("span", { class: `swatch line-${i + 1}`, "aria-hidden": "true" }), h("span", {}, name), h("strong", {}, now(name)));
    put(legend, names.map(item));
    const sentence = (name) => {
      const seen = lines.get(name).filter((point) => point !== undefined);
      return `${name}: now ${now(name)}, least ${unit(Math.min(...seen))}, most ${unit(Math.max(...seen))}.`;
    };
    summary.textContent = names.length ? `In the last five minutes. ${names.map(sentence).join(" ")}` : "No figures yet.";
  }

  const now = (name) => {
    const last = lines.get(name).at(-1);
    return last === undefined ? "no answer" : unit(last);
  };

  // One unit of the drawing is one pixel, so that its letters are as large as all others.
  new ResizeObserver(() => {
    width = Math.max(200, Math.round(plot.clientWidth));
    draw();
  }).observe(plot);
  draw();
  return { element, push };
}
