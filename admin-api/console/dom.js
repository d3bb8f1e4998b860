// Elements are made here and nowhere else. Whatever comes from the broker becomes a text node or an attribute's value, never markup.

/** Attributes that a hostile value could turn into code. Links are made by `link`, which knows where they lead. */
const REFUSED = /^(on|srcdoc$|style$|href$|src$|action$|formaction$)/i;

/**
 * Makes an element. `props` are attributes, but: `class`, `on` (listeners by event), `hidden`, `disabled` and other booleans as they are.
 * Children are elements and texts; `null`, `undefined` and `false` are left out, lists are flattened.
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "value") {
      element.value = value;
    } else if (REFUSED.test(name)) {
      throw new Error(`${name} is not set from data`);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(element, children);
  return element;
}

/** Adds children as `h` does. */
export function append(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Replaces all children. */
export function put(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

/** The address of a page of the console. Parts are encoded, whatever is in them. */
export function address(parts, query = {}) {
  const path = [parts].flat().map(encodeURIComponent).join("/");
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && value !== null));
  return `#/${path}${search.size ? `?${search}` : ""}`;
}

/** A link to a page of the console. */
export function link(parts, text, query = {}, props = {}) {
  const element = h("a", props, text);
  element.setAttribute("href", address(parts, query));
  return element;
}

let n_ids = 0;

/** A name that no other element of the page has. */
export function fresh(prefix) {
  n_ids += 1;
  return `${prefix}-${n_ids}`;
}

/** Says something to whoever cannot see the page. */
export function announce(text) {
  const region = document.getElementById("announcer");
  // The same text twice is announced once only, so it is emptied in between.
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = text));
}
