"use strict";
(() => {
  const { report, about } = JSON.parse(document.getElementById("report").textContent);

  // The worst first: a cell shows the first of these that one of its cases came to.
  const STATUS = {
    failed: { sign: "✗", name: "failed" },
    unsupported: { sign: "U", name: "unsupported" },
    waived: { sign: "W", name: "waived" },
    not_exercised: { sign: "–", name: "not exercised" },
    passed: { sign: "✓", name: "passed" },
  };
  const BADNESS = Object.keys(STATUS);
  const DTYPES = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool"];
  const SHORT = { bfloat16: "bf16", float: "f", uint: "u", int: "i" };
  const SOURCES = ["kernel", "body", "fallback"];
  const ORDERS = { name: "by name", worst: "worst first", time: "slowest first" };
  const ROWS = 100; // of a list, before a button asks for the rest
  const FIRST_FAILURES = 8; // as many leave the ops in sight

  const byId = (id) => document.getElementById(id);
  const number = (n) => n.toLocaleString("en");
  const short = (dtype) => dtype.replace(/bfloat16|float|uint|int/, (m) => SHORT[m]);
  const sum = (items, of) => items.reduce((total, item) => total + of(item), 0);
  const status = (name) => STATUS[name] ?? { sign: "?", name };
  const badness = (name) => BADNESS.indexOf(name);

  // Every text of the report becomes a text node or the value of a plain attribute, never markup.
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
  }
  const group = (items, key) => {
    const groups = new Map();
    for (const item of items) {
      const k = key(item);
      if (!groups.has(k)) groups.set(k, []);
      groups.get(k).push(item);
    }
    return groups;
  };

  // Cases as the page needs them
  const cases = report.cases.map((c) => ({
    ...c,
    error: c.worst === null ? null : Number.isNaN(Number(c.worst)) ? Infinity : Number(c.worst),
    text: `${c.id} ${c.op ?? ""} ${c.message}`.toLowerCase(),
  }));
  const column = (c) => (c.direction && c.dtype ? `${c.direction}/${c.dtype}` : "");
  const ops = group(cases.filter((c) => c.op !== null), (c) => c.op);
  const columns = new Set(cases.filter((c) => c.op !== null).map(column));
  const order = (dtype) => (DTYPES.indexOf(dtype) + 1 || DTYPES.length + 1);
  const dtypes = [...new Set(cases.map((c) => c.dtype).filter((d) => d !== null))].sort((a, b) => order(a) - order(b));

  function digits(x, long) {
    if (x === Infinity) return "∞";
    if (x >= 9999.5 || (long && x > 0 && x < 0.0095)) return x.toExponential(long ? 2 : 0).replace("e+", "e");
    if (!long && x > 0 && x < 0.0095) return "<.01";
    return x >= 99.5 ? String(Math.round(x)) : String(Number(x < 1 && !long ? x.toFixed(2) : x.toPrecision(long ? 3 : 2)));
  }
  // ULP as they are; a part of the tolerance as a percentage of it, and beyond it as a multiple.
  function worst(error, unit, long = false) {
    if (error === null) return "";
    if (unit === "ULP") return digits(error, long) + (long ? " ULP" : "");
    const text = error > 1 ? `${digits(error, long)}×` : error > 0 && error < 0.01 ? "<1%" : `${Math.round(error * 100)}%`;
    return long ? `${text.replace("×", " ×").replace("%", " % of")} bound` : text;
  }
  const time = (s) => (s >= 99.5 ? `${number(Math.round(s))} s` : s >= 1 ? `${s.toFixed(1)} s` : `${digits(s * 1000, false)} ms`);
  const worstStatus = (list) => BADNESS.find((s) => list.some((c) => c.status === s)) ?? list[0].status;
  function largest(list) {
    for (const unit of ["ULP", "bound"]) {
      const errors = list.filter((c) => c.unit === unit && c.error !== null).map((c) => c.error);
      if (errors.length) return { error: Math.max(...errors), unit };
    }
    return { error: null, unit: null };
  }
  const pill = (name, text) => el("span", { class: `pill s-${name}` }, `${status(name).sign} ${text ?? status(name).name}`);
  function bar(parts, label) {
    const node = el("div", { class: "bar", role: "img", "aria-label": label });
    for (const [name, amount] of parts) {
      if (!amount) continue;
      const part = el("i", { class: name });
      part.style.flexGrow = amount;
      node.append(part);
    }
    return node;
  }

  // The word of the command line; quoted for a POSIX shell where it needs it.
  const word = (text) => (/^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const command = (c) => `plugrad conformance run ${word(report.device.name)} --case ${word(c.id)}`;

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange(); // no clipboard for a page from a file: select, and let the user copy
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  // Head
  function head() {
    const { device, environment, asked } = report;
    const rank = (level) => (level ? Number(level.slice(1).split("-")[0]) : -1);
    const kept = report.claimed === null || rank(report.reached) >= rank(report.claimed);
    const claim = report.claimed === null ? "no level claimed"
      : report.filtered ? `claims ${report.claimed}`
        : kept ? `claims ${report.claimed}: kept` : `claims ${report.claimed}: not kept`;
    const verdict = report.filtered ? "part" : report.reached !== null && kept ? "good" : "bad";
    const which = [
      asked.ops.length ? `of the ops ${asked.ops.join(", ")}` : null,
      asked.cases === null || !asked.cases.length ? null : Array.isArray(asked.cases) ? `named one by one (${number(asked.cases.length)})` : `named in ${asked.cases}`,
    ].filter(Boolean).join(" and ");
    const facts = {
      backend: `${device.backend} (${device.distribution} ${device.version})`,
      devices: number(device.devices),
      plugrad: report.plugrad,
      "asked for": `${asked.level}, ${asked.jobs} ${asked.jobs === 1 ? "job" : "jobs"}${asked.limit === null ? "" : `, ${asked.limit} s a case`}`,
      made: report.created.replace("T", " ").replace("Z", " UTC"),
      took: time(report.seconds),
      ...environment,
      dtypes: [...device.dtypes].sort((a, b) => order(a) - order(b)).join(" "),
      suite: report.suite.slice(0, 16),
    };
    byId("head").append(...[
      el("div", { class: "top" },
        el("div", {}, el("p", { class: "eyebrow" }, "plugrad conformance"), el("h1", {}, device.name), el("p", { class: "description" }, device.description)),
        el("div", { class: `verdict ${verdict}`, id: "verdict" },
          el("span", {}, report.filtered ? "filtered run" : "level reached"),
          el("b", {}, report.filtered ? "no level" : report.reached ?? "none"), el("span", {}, claim))),
      report.filtered ? el("p", { class: "banner", id: "filtered" }, el("b", {}, "Filtered run: no level."),
        `Only cases ${which || "that were chosen"} ran; a level needs all of its cases.`) : null,
      el("dl", { class: "facts" }, ...Object.entries(facts).map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", { title: k === "suite" ? report.suite : null }, v)))),
    ].filter(Boolean));
    document.title = `${device.name}: ${report.filtered ? "filtered run" : report.reached ?? "no level"} - plugrad conformance`;
    byId("foot").append(el("p", {}, "Check this report offline: ", el("code", {}, "plugrad conformance verify report.json"), ` · digest ${report.digest}`));
  }

  function levels() {
    const shown = ["passed", "not_exercised", "failed", "unsupported", "waived"];
    const cell = (n) => el("td", { class: `number${n ? "" : " zero"}` }, number(n));
    const reached = report.reached === null ? -1 : Number(report.reached.slice(1).split("-")[0]);
    const whole = (item) => item.passed > 0 && item.passed + item.not_exercised === item.cases;
    const mark = (item, index) => (report.filtered ? item.level : index <= reached ? pill("passed", item.level) : whole(item)
      ? el("span", { class: "pill s-not_exercised", title: "its own cases passed, those of a level below did not" }, `– ${item.level}`) : pill("failed", item.level));
    const rows = report.levels.map((item, index) => el("tr", {},
      el("th", { scope: "row" }, mark(item, index)),
      el("td", { class: "wide" }, about[item.level] ?? ""), cell(item.cases), ...shown.map((s) => cell(item[s])),
      el("td", {}, bar(shown.map((s) => [`s-${s}`, item[s]]), shown.map((s) => `${status(s).name} ${item[s]}`).join(", ")))));
    byId("levels").append(el("table", { class: "plain" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "level"), el("th", { scope: "col", class: "wide" }, "what it is about"),
        el("th", { scope: "col", class: "number" }, "cases"),
        ...shown.map((s) => el("th", { scope: "col", class: "number", title: status(s).name }, status(s).sign, el("span", { class: "word" }, ` ${status(s).name}`))),
        el("th", { scope: "col" }))),
      el("tbody", {}, ...rows)));
    const sources = SOURCES.map((s) => [s, sum(Object.values(report.sources), (counts) => counts[s])]);
    const total = sum(sources, ([, n]) => n) || 1;
    const words = { kernel: "the device's own kernels", body: "bodies", fallback: "fallbacks" };
    const text = sources.map(([s, n]) => `${words[s]} ${number(n)} (${(100 * n / total).toFixed(1)} %)`).join(" · ");
    byId("computed").append(el("span", {}, `Calls computed by ${text}`), bar(sources, text));
    if (report.waivers.length) {
      byId("waivers").hidden = false;
      byId("waivers-body").append(el("table", { class: "plain" },
        el("thead", {}, el("tr", {}, ...["status", "case", "reason"].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", {}, ...report.waivers.map((w) => el("tr", {},
          el("td", {}, w.unexpected_pass ? pill("failed", "passes: drop the waiver") : pill("waived")),
          el("td", { class: "id" }, w.case), el("td", {}, w.reason))))));
    }
  }

  // Lists of cases, with what repeats each failure
  const SORTS = {
    case: (c) => c.id, level: (c) => c.level ?? 9, worst: (c) => (c.error === null ? -1 : c.unit === "ULP" ? c.error : c.error * 1e-6), time: (c) => c.seconds,
  };
  const sorts = new Map();
  function list(place, all, limit = ROWS) {
    const sorting = sorts.get(place) ?? { by: null, down: false };
    const key = SORTS[sorting.by];
    const sorted = key ? [...all].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (sorting.down ? -1 : 1))
      : [...all].sort((a, b) => badness(a.status) - badness(b.status) || (a.level ?? 9) - (b.level ?? 9));
    const heading = (name, extra = "") => el("th", { scope: "col", class: extra, "aria-sort": sorting.by === name ? (sorting.down ? "descending" : "ascending") : null },
      el("button", { class: "sort", type: "button", onclick: () => {
        sorts.set(place, { by: name, down: sorting.by === name ? !sorting.down : name !== "case" });
        list(place, all, limit);
      } }, `${name}${sorting.by === name ? (sorting.down ? " ▾" : " ▴") : ""}`));
    const shown = sorted.slice(0, limit);
    const rest = sorted.length - shown.length;
    place.replaceChildren(
      el("div", { class: "scroll" }, el("table", { class: "plain cases" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "status"), heading("case"), heading("level", "wide"), heading("worst", "number"), heading("time", "number"),
          el("th", { scope: "col", class: "number wide" }, "samples"), el("th", { scope: "col", class: "number wide", title: "calls computed by kernel, body, fallback" }, "k / b / f"))),
        el("tbody", {}, ...shown.map(row)))));
    if (rest) place.append(el("button", { class: "more", type: "button", onclick: () => list(place, all, Infinity) }, `Show ${number(rest)} more`));
  }
  function row(c) {
    const repeat = c.status === "passed" || c.status === "not_exercised" ? null : command(c);
    const button = repeat && el("button", { type: "button", "aria-label": `Copy the command that repeats ${c.id}`, onclick: () => copy(repeat, button) }, "Copy");
    return el("tr", { "data-case": c.id, "data-status": c.status },
      el("td", {}, pill(c.status)),
      el("td", {}, el("div", { class: "id" }, c.id), c.message ? el("div", { class: "message" }, c.message) : null,
        repeat && el("div", { class: "command" }, el("code", {}, repeat), button)),
      el("td", { class: "wide", title: c.level === null ? "counts for no level" : null }, c.level === null ? "none" : `L${c.level}`), el("td", { class: "number" }, worst(c.error, c.unit, true)), el("td", { class: "number" }, time(c.seconds)),
      el("td", { class: "number wide" }, number(c.samples)), el("td", { class: "number wide" }, `${c.sources.kernel} / ${c.sources.body} / ${c.sources.fallback}`));
  }

  // What is looked for; it stands in the page's address, so that a view can be shared.
  const FILTERS = ["q", "level", "kind", "dtype"];
  const state = { statuses: new Set(), order: "name", at: "" };
  function fromAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of FILTERS) state[name] = given.get(name) ?? "";
    state.statuses = new Set((given.get("status") ?? "").split(",").filter((s) => s in STATUS));
    state.order = given.get("order") in ORDERS ? given.get("order") : "name";
    state.at = given.get("at") ?? "";
  }
  function toAddress() {
    const parts = new URLSearchParams();
    for (const name of FILTERS) if (state[name]) parts.set(name, state[name]);
    if (state.statuses.size) parts.set("status", [...state.statuses].join(","));
    if (state.order !== "name") parts.set("order", state.order);
    if (state.at) parts.set("at", state.at);
    history.replaceState(null, "", `#${parts}`);
  }
  const filtering = () => state.statuses.size > 0 || FILTERS.some((name) => state[name]);
  function matcher() {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    return (c) => (!state.statuses.size || state.statuses.has(c.status)) && (!state.level || (c.level === null ? "none" : `L${c.level}`) === state.level)
      && (!state.kind || c.kind === state.kind) && (!state.dtype || c.dtype === state.dtype) && words.every((w) => c.text.includes(w));
  }

  // The matrix
  function matrix(matches) {
    const wanted = dtypes.filter((d) => !state.dtype || d === state.dtype);
    const parts = ["forward", "vjp"].map((direction) => [direction, wanted.filter((d) => columns.has(`${direction}/${d}`))]).filter(([, list]) => list.length);
    const without = columns.has("") && !state.dtype;
    const rows = [];
    for (const [op, all] of ops) {
      const found = all.filter(matches);
      if (found.length) rows.push({ op, all, bad: badness(worstStatus(found)), count: found.filter((c) => badness(c.status) < 3).length, seconds: sum(all, (c) => c.seconds) });
    }
    const byName = (a, b) => (a.op < b.op ? -1 : 1);
    rows.sort({ name: byName, worst: (a, b) => a.bad - b.bad || b.count - a.count || byName(a, b), time: (a, b) => b.seconds - a.seconds || byName(a, b) }[state.order]);
    if (!rows.length) {
      byId("matrix").replaceChildren(el("p", { class: "empty" }, "No op has such a case."));
      return;
    }
    const top = el("tr", {}, el("th", { rowspan: 2, scope: "col" }, `op (${number(rows.length)})`),
      ...parts.map(([direction, list]) => el("th", { colspan: list.length, scope: "colgroup", class: "first" }, direction)), without ? el("th", { rowspan: 2, scope: "col", class: "first" }, "no dtype") : "",
      el("th", { colspan: 3, scope: "colgroup", class: "first" }, "calls computed by"), el("th", { rowspan: 2, scope: "col" }, "time"));
    const second = el("tr", {}, ...parts.flatMap(([, list]) => list.map((d, i) => el("th", { scope: "col", title: d, class: i ? null : "first" }, short(d)))),
      ...SOURCES.map((s, i) => el("th", { scope: "col", class: i ? null : "first" }, s)));
    const body = el("tbody");
    for (const { op, all, seconds } of rows) {
      const cells = group(all, column);
      const counts = report.sources[op] ?? { kernel: 0, body: 0, fallback: 0 };
      const tr = el("tr", { "data-op": op }, el("th", { scope: "row", "data-at": op, tabindex: -1, title: `all ${all.length} cases of ${op}` }, op));
      for (const [direction, list] of parts) list.forEach((d, i) => tr.append(cell(op, `${direction}/${d}`, cells.get(`${direction}/${d}`), i === 0, matches)));
      if (without) tr.append(cell(op, "", cells.get(""), true, matches));
      tr.append(...SOURCES.map((s, i) => el("td", { class: `number${i ? "" : " first"}${s === "fallback" && counts[s] ? " warn" : ""}` }, number(counts[s]))),
        el("td", { class: "number" }, time(seconds)));
      body.append(tr);
    }
    const table = el("table", { role: "grid", "aria-labelledby": "matrix-title" }, el("thead", {}, top, second), body);
    byId("matrix").replaceChildren(table);
    (table.querySelector(`[data-at="${CSS.escape(state.at)}"]`) ?? table.querySelector("[data-at]")).tabIndex = 0;
  }
  function cell(op, where, list, first, matches) {
    if (!list) return el("td", { class: first ? "none first" : "none" });
    // What was not exercised takes nothing from what passed beside it; it only leaves a mark.
    const partly = worstStatus(list) === "not_exercised" && list.some((c) => c.status === "passed");
    const name = partly ? "passed" : worstStatus(list);
    const { error, unit } = largest(list.filter((c) => c.status === name));
    const at = where ? `${op}/${where}` : `${op}/`;
    const label = `${op} ${where.replace("/", " ") || "without dtype"}: ${[...group(list, (c) => c.status)].map(([s, l]) => `${l.length} ${status(s).name}`).join(", ")}`
      + `${error === null ? "" : `; worst ${worst(error, unit, true)}`}; ${time(sum(list, (c) => c.seconds))}`;
    const dim = filtering() && !list.some(matches);
    return el("td", { class: `s-${name}${partly ? " partly" : ""}${first ? " first" : ""}${dim ? " dim" : ""}`, "data-at": at, tabindex: -1, title: label, "aria-label": label, "aria-selected": at === state.at ? "true" : null },
      [status(name).sign, worst(error, unit), partly ? status("not_exercised").sign : ""].filter(Boolean).join(" "));
  }

  // The cases of a cell or of a row
  function panel(focus = false) {
    const place = byId("panel");
    for (const node of document.querySelectorAll("#matrix [aria-selected]")) node.removeAttribute("aria-selected");
    const slash = state.at.indexOf("/");
    const [op, where] = slash < 0 ? [state.at, null] : [state.at.slice(0, slash), state.at.slice(slash + 1)];
    const chosen = (ops.get(op) ?? []).filter((c) => where === null || column(c) === where);
    place.hidden = !chosen.length;
    document.body.classList.toggle("open", chosen.length > 0);
    if (!chosen.length) return;
    document.querySelector(`#matrix [data-at="${CSS.escape(state.at)}"]`)?.setAttribute("aria-selected", "true");
    const body = el("div");
    place.replaceChildren(
      el("div", { class: "title" }, el("h2", { id: "panel-title" }, `${op} ${where === null ? "" : where.replace("/", " ")}`.trim(), el("span", { class: "hint" }, `  ${number(chosen.length)} ${chosen.length === 1 ? "case" : "cases"}`)),
        el("button", { type: "button", id: "close", onclick: close }, "Close (Esc)")), body);
    list(body, chosen);
    place.scrollTop = 0;
    if (focus) place.focus({ preventScroll: true });
  }
  function open(at) { state.at = at; toAddress(); panel(true); }
  function close() {
    const node = document.querySelector(`#matrix [data-at="${CSS.escape(state.at)}"]`);
    state.at = "";
    toAddress();
    panel();
    node?.focus({ preventScroll: true });
  }

  function render(printing = false) {
    const matches = matcher();
    const found = cases.filter(matches);
    for (const name of FILTERS) if (byId(name).value !== state[name]) byId(name).value = state[name];
    byId("order").value = state.order;
    for (const button of byId("statuses").children) button.setAttribute("aria-pressed", String(state.statuses.has(button.dataset.status)));
    byId("shown").textContent = filtering() ? `${number(found.length)} of ${number(cases.length)} cases` : `${number(cases.length)} cases`;
    byId("clear").hidden = !filtering();
    const problems = found.filter((c) => c.status === "failed" || c.status === "unsupported");
    byId("problems").hidden = !problems.length;
    byId("problems-title").textContent = `Failures (${number(problems.length)})`;
    list(byId("problems-body"), problems, printing ? Infinity : state.statuses.size ? ROWS : FIRST_FAILURES);
    matrix(matches);
    const others = found.filter((c) => c.op === null);
    byId("others").hidden = !others.length;
    byId("others-title").textContent = `Other cases (${number(others.length)})`;
    list(byId("others-body"), others);
    panel();
  }
  function change(name, value) { state[name] = value; toAddress(); render(); }

  function toolbar() {
    const option = (value, text) => el("option", { value }, text);
    const counts = group(cases, (c) => c.status);
    for (const name of [...BADNESS.slice(0, -1), "passed"]) {
      const count = counts.get(name)?.length ?? 0;
      byId("statuses").append(el("button", { type: "button", class: `s-${name}`, "data-status": name, disabled: !count, onclick: () => {
        if (!state.statuses.delete(name)) state.statuses.add(name);
        toAddress();
        render();
      } }, `${STATUS[name].sign} ${STATUS[name].name} ${number(count)}`));
    }
    byId("level").append(option("", "all levels"), ...report.levels.map((l) => option(l.level, l.level)),
      ...(cases.some((c) => c.level === null) ? [option("none", "not counted")] : []));
    byId("kind").append(option("", "all kinds"), ...[...new Set(cases.map((c) => c.kind))].sort().map((k) => option(k, k)));
    byId("dtype").append(option("", "all dtypes"), ...dtypes.map((d) => option(d, d)));
    byId("order").append(...Object.entries(ORDERS).map(([value, text]) => option(value, text)));
    for (const name of ["level", "kind", "dtype", "order"]) byId(name).addEventListener("change", (event) => change(name, event.target.value));
    let waiting = 0;
    byId("q").addEventListener("input", (event) => { clearTimeout(waiting); waiting = setTimeout(() => change("q", event.target.value), 120); });
    byId("clear").addEventListener("click", () => {
      for (const name of FILTERS) state[name] = "";
      state.statuses.clear();
      toAddress();
      render();
    });
    byId("legend").append("A cell stands for all cases of one op, direction and dtype, and shows the worst status: ",
      ...["passed", "not_exercised", "failed", "unsupported", "waived"].flatMap((s) => [pill(s), " "]),
      "with the largest error, in ULP, or in % of the bound that its tolerance sets (×: times that bound). A corner and a – say that some of its cases were not exercised. Click a cell or an op, or move by arrow keys and press Enter.");
  }

  function keys() {
    const place = byId("matrix");
    place.addEventListener("click", (event) => { const node = event.target.closest("[data-at]"); if (node) open(node.dataset.at); });
    place.addEventListener("keydown", (event) => {
      const node = event.target.closest("[data-at]");
      if (!node) return;
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(node.dataset.at); return; }
      const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
      if (!down && !right) return;
      event.preventDefault();
      let tr = node.parentElement, index = [...tr.children].indexOf(node);
      for (;;) { // on to the next that holds cases
        if (down) tr = down > 0 ? tr.nextElementSibling : tr.previousElementSibling;
        index += right;
        const next = tr?.children[index];
        if (!next) return;
        if (next.dataset.at === undefined) continue;
        node.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
        return;
      }
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && state.at) close();
      else if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { event.preventDefault(); byId("q").focus(); }
    });
    addEventListener("hashchange", () => { fromAddress(); render(); });
    addEventListener("beforeprint", () => render(true));
    addEventListener("afterprint", () => render());
  }

  head();
  levels();
  toolbar();
  keys();
  fromAddress();
  render();
})();
