// Shows the samples of a data set. What is shown is set as text, never as HTML, whatever a caption holds.
// The hash of the URL is the only state: controls write it, `show` reads it; so every view has a link, such as
// #text=red backpack&person=0001&hat=hat.cap&confidence=hat:0.9..1&sample=KEY
"use strict";

const {title, isSynthetic, total, tile, problems, fields} = DATA; // of samples.js
const RESERVED = ["text", "person", "camera", "confidence", "sample"];
const SHORT = new Map([["person_id", "person"], ["camera_id", "camera"]]);
const element = (id) => document.getElementById(id);
const ofKind = (kind) => fields.filter((field) => field.kind === kind);
const collator = new Intl.Collator("en", {numeric: true});
const number = (value) => value.toLocaleString("en");
const label = (name) => name.replaceAll("_", " ");
const find = (kind, name) => fields.find((field) => field.kind === kind && field.name === name)?.values;

const keys = fields.find((field) => field.name === "key").values;
const captions = ofKind("caption");
const attributes = ofKind("attribute").map(({name, values}) => ({
  name,
  values,
  parameter: SHORT.get(name) ?? (RESERVED.includes(name) ? `${name}_` : name),
  options: [...new Set(values)].sort((a, b) => collator.compare(a, b)),
  confidences: find("confidence", `${name}_confidence`),
  margins: find("margin", `${name}_margin`),
}));
const scored = attributes.filter(({confidences}) => confidences);
const chosen = attributes.filter(({name, options}) => name !== "person_id" && options.length > 1);
const haystacks = keys.map((key, i) => [key, ...captions.map(({values}) => values[i])].join("\n").toLowerCase());

let cells = []; // list items, one a sample
let matches = []; // indices of the samples that pass, in order
let current = 0; // index of the sample that has the focus, or would have it

// The state is the hash.

const readState = () => new URLSearchParams(location.hash.slice(1));

function writeState(changes, {isStep = false} = {}) {
  const state = readState();
  for (const [name, value] of Object.entries(changes)) value === null ? state.delete(name) : state.set(name, value);
  const readable = state.toString().replaceAll("+", "%20").replaceAll("%3A", ":");
  history[isStep ? "pushState" : "replaceState"](null, "", `#${readable}`);
  if (!("sample" in changes)) scrollTo(0, 0);
  show();
}

// A filter has the attribute it is about, if any, and tells whether sample i passes.

function buildFilters(state) {
  const filters = [];
  const faults = [];
  for (const [parameter, wanted] of state) {
    const attribute = attributes.find((candidate) => candidate.parameter === parameter);
    if (parameter === "text") {
      const words = wanted.toLowerCase().split(/\s+/);
      filters.push({passes: (i) => words.every((word) => haystacks[i].includes(word))});
    } else if (parameter === "confidence") {
      const range = parseConfidence(wanted);
      if (range) filters.push({passes: (i) => range.low <= range.values[i] && range.values[i] <= range.high});
      else faults.push(`confidence=${wanted} is not understood; it reads ATTRIBUTE:0.5..1`);
    } else if (attribute) {
      filters.push({attribute, passes: (i) => String(attribute.values[i]) === wanted});
    } else if (parameter !== "sample") {
      faults.push(`${parameter} is no filter; there are sample, text, confidence, ${attributes.map((a) => a.parameter).join(", ")}`);
    } else if (!keys.includes(wanted)) {
      faults.push(`sample ${wanted} is not on this page`);
    }
  }
  return [filters, faults];
}

function parseConfidence(stated) {
  const [, name, low, high] = /^(.+):(\d*\.?\d+)\.\.(\d*\.?\d+)$/.exec(stated ?? "") ?? [];
  const values = scored.find((attribute) => attribute.name === name)?.confidences;
  return values && {name, values, low: Number(low), high: Number(high)};
}

function show() {
  const state = readState();
  const [filters, faults] = buildFilters(state);
  const counts = new Map(chosen.map((attribute) => [attribute, new Map()]));
  matches = [];
  for (let i = 0; i < cells.length; i++) {
    const failed = filters.filter((filter) => !filter.passes(i));
    cells[i].hidden = failed.length > 0;
    if (failed.length === 0) matches.push(i);
    if (failed.length > 1) continue;
    for (const [attribute, ofValue] of counts) { // what a choice would leave, were it another one
      const value = attribute.values[i];
      if (failed.length === 0 || failed[0].attribute === attribute) ofValue.set(value, (ofValue.get(value) ?? 0) + 1);
    }
  }
  showCounts(filters, faults);
  showControls(state, counts);
  showScores(parseConfidence(state.get("confidence")));
  focusable(matches.includes(current) ? current : (matches[0] ?? 0));
  showDetail(keys.indexOf(state.get("sample")));
}

function showCounts(filters, faults) {
  const of = `${cells.length < total ? `${number(cells.length)} of ` : ""}${number(total)} samples`;
  element("count").textContent = filters.length ? `${number(matches.length)} match · ${of}` : of;
  element("fault").textContent = faults.join("; ");
  element("fault").hidden = faults.length === 0;
  element("nothing").hidden = matches.length > 0;
  element("clear").disabled = filters.length === 0;
  document.querySelector("#filters > summary").textContent = filters.length ? `Filters (${filters.length})` : "Filters";
}

function showControls(state, counts) {
  for (const name of ["text", "person"]) {
    const value = state.get(name) ?? "";
    if (element(name).value !== value) element(name).value = value;
    element(name).classList.toggle("is-set", state.has(name));
  }
  for (const [{name, parameter, options, select}, ofValue] of counts) {
    const wanted = state.get(parameter);
    select.selectedIndex = wanted === null ? 0 : options.findIndex((value) => String(value) === wanted) + 1 || -1;
    select.classList.toggle("is-set", wanted !== null);
    options.forEach((value, place) => {
      const count = ofValue.get(value) ?? 0;
      const option = select.options[place + 1];
      option.text = `${pretty(name, value)} (${number(count)})`;
      option.hidden = count === 0 && String(value) !== wanted;
    });
  }
  const range = parseConfidence(state.get("confidence"));
  element("confidence-of").value = range?.name ?? "";
  element("confidence-from").value = range?.low ?? "";
  element("confidence-to").value = range?.high ?? "";
  element("confidence-from").disabled = element("confidence-to").disabled = !range;
}

function showScores(range) {
  for (const i of matches) {
    cells[i].querySelector(".score").textContent = range ? `${label(range.name)} ${range.values[i].toFixed(2)}` : "";
  }
}

function showDetail(i) {
  const dialog = element("detail");
  if (i < 0) return dialog.close();
  focusable(i);
  element("detail-key").textContent = keys[i];
  paint(element("detail-picture"), i);
  element("detail-captions").replaceChildren(...captions.map(({values}) => made("p", values[i], "caption")));
  element("detail-attributes").replaceChildren(...attributes.map((attribute) => attributeRow(attribute, i)));
  const stored = ofKind("stored").map(({name, values}) => row(label(name), [values[i]].flat().join(", ")));
  element("detail-stored").replaceChildren(...stored);
  if (!dialog.open) dialog.showModal();
}

function attributeRow({name, values, confidences, margins}, i) {
  const line = row(label(name), pretty(name, values[i]));
  if (scored.length) line.append(made("td", confidences?.[i].toFixed(2), "bar"), made("td", margins?.[i].toFixed(3), "margin"));
  if (confidences) line.querySelector(".bar").style.setProperty("--share", confidences[i]);
  return line;
}

// Pieces of the page.

function made(tag, text = "", name = "") {
  return Object.assign(document.createElement(tag), {textContent: text, className: name, dir: "auto"});
}

function row(name, text) {
  const line = made("tr");
  line.append(made("th", name), made("td", text));
  return line;
}

// "hat.baseball_cap" of the attribute hat reads "baseball cap"; what is not known, "" or -1, reads "—".
function pretty(name, value) {
  const text = String(value);
  if (text.startsWith(`${name}.`)) return label(text.slice(name.length + 1)).replaceAll(".", " · ");
  return text === "" || text === "-1" ? "—" : text;
}

function paint(picture, i) {
  const [sprite, place] = [Math.floor(i / (tile.columns * tile.rows)), i % (tile.columns * tile.rows)];
  const [column, line] = [place % tile.columns, Math.floor(place / tile.columns)];
  picture.className = "picture";
  picture.textContent = problems[i] && `no picture: its image ${problems[i]}`;
  picture.style.backgroundImage = problems[i] ? "none" : `url("sprites/${String(sprite).padStart(5, "0")}.webp")`;
  picture.style.backgroundSize = `${tile.columns * 100}% ${tile.rows * 100}%`;
  picture.style.backgroundPosition = `${(column / (tile.columns - 1)) * 100}% ${(line / (tile.rows - 1)) * 100}%`;
}

function focusable(i) {
  cells[current].firstElementChild.tabIndex = -1;
  cells[i].firstElementChild.tabIndex = 0;
  current = i;
}

function buildCells() {
  const blank = element("cell").content.firstElementChild;
  cells = keys.map((key, i) => {
    const cell = blank.cloneNode(true);
    cell.querySelector(".key").textContent = key;
    cell.querySelector(".caption").textContent = captions[0]?.values[i] ?? "";
    cell.firstElementChild.onclick = () => writeState({sample: key}, {isStep: true});
    return cell;
  });
  element("grid").append(...cells);
  const places = new Map(cells.map((cell, i) => [cell, i]));
  const watcher = new IntersectionObserver((entries) => { // a sprite is loaded when one of its tiles comes near
    for (const {target} of entries.filter((entry) => entry.isIntersecting)) {
      watcher.unobserve(target);
      paint(target.querySelector(".picture"), places.get(target));
    }
  }, {rootMargin: "800px"});
  cells.forEach((cell) => watcher.observe(cell));
}

function buildControls() {
  for (const attribute of chosen) {
    const {name, parameter, options} = attribute;
    const select = (attribute.select = made("select"));
    select.append(new Option("any"), ...options.map(() => new Option()));
    select.onchange = () => writeState({[parameter]: select.selectedIndex ? String(options[select.selectedIndex - 1]) : null});
    const line = made("label", label(name));
    line.append(select);
    element("attributes").append(line);
  }
  const people = attributes.find(({name}) => name === "person_id");
  element("people").append(...(people?.options ?? []).map((person) => new Option(person)));
  element("person").parentElement.hidden = !people;
  element("detail-head").hidden = scored.length === 0;
  element("confidence").hidden = scored.length === 0;
  element("confidence-of").append(new Option("any", ""), ...scored.map(({name}) => new Option(label(name), name)));
}

function listen() {
  addEventListener("hashchange", show);
  element("text").oninput = ({target}) => writeState({text: target.value || null});
  element("person").onchange = ({target}) => writeState({person: target.value || null});
  element("confidence").onchange = () => {
    const [name, low, high] = ["of", "from", "to"].map((part) => element(`confidence-${part}`).value);
    writeState({confidence: name ? `${name}:${low || 0}..${high || 1}` : null});
  };
  element("clear").onclick = () => (location.hash = "");
  element("grid").onkeydown = (event) => {
    const columns = getComputedStyle(element("grid")).gridTemplateColumns.split(" ").length;
    const [first, last] = [-cells.length, cells.length];
    const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: first, End: last};
    if (!(event.key in steps)) return;
    event.preventDefault();
    focusable(neighbour(steps[event.key]));
    cells[current].firstElementChild.focus();
  };
  const step = (by) => matches.length && writeState({sample: keys[neighbour(by)]});
  element("previous").onclick = () => step(-1);
  element("next").onclick = () => step(1);
  element("detail").onkeydown = ({key}) => {
    if (key === "ArrowLeft" || key === "ArrowRight") step(key === "ArrowLeft" ? -1 : 1);
  };
  element("close").onclick = () => element("detail").close();
  element("detail").onclose = () => {
    if (readState().has("sample")) writeState({sample: null});
    cells[current].firstElementChild.focus();
  };
}

const neighbour = (by) => matches[Math.max(0, Math.min(matches.length - 1, matches.indexOf(current) + by))];

element("title").textContent = document.title = title;
element("footer").textContent = isSynthetic
  ? "The people shown are drawings."
  : "For looking at on this machine: images and captions stay under the licences of their sources.";
document.body.classList.toggle("captions-only", problems.every((problem) => problem === "captions only"));
const wide = matchMedia("(min-width: 721px)"); // as in the style sheet, which then hides what would close the filters
wide.onchange = () => (element("filters").open = wide.matches);
wide.onchange();
buildCells();
buildControls();
listen();
show();
