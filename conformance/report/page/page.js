"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main"), panel = document.getElementById("panel"), tabs = document.getElementById("tabs");
const ORDER = ["PASS", "FAIL", "XPASS", "XFAIL", "UNSUPPORTED", "N/A", "UNTESTED"];
const MARK = {PASS: "✓", FAIL: "✗", XPASS: "!", XFAIL: "✗", UNSUPPORTED: "–", "N/A": "·", UNTESTED: "?"};
const SAYS = {PASS: "passes", FAIL: "fails", XPASS: "passes unexpectedly", XFAIL: "fails, as known", UNSUPPORTED: "not supported", "N/A": "not applicable", UNTESTED: "untested"};
const INBOUND = 0, OUTBOUND = 1, CALLED = 2;
const cls = v => v.replace("/", "");
const byName = new Map(data.scripts.map(s => [s.n, s]));

// h makes an element; children are elements or text, so that nothing from a
// script is ever taken for HTML.
function h(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props || {})) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v !== undefined && v !== false && v !== null) e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...children.flat(9).filter(c => c !== null && c !== undefined && c !== false));
  return e;
}
const NS = "http://www.w3.org/2000/svg";
function s(tag, props, ...children) {
  const e = document.createElementNS(NS, tag);
  for (const [k, v] of Object.entries(props || {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
}
const chip = v => h("span", {class: "chip " + cls(v), title: SAYS[v]}, MARK[v] + " " + v);

// verdictOf is the worst verdict of a script on a target, "" if it did not run.
const WORST = ["UNSUPPORTED", "PASS", "XPASS", "XFAIL", "FAIL"];
function verdictOf(script, target) {
  let worst = -1;
  for (const r of script.runs) if (r.g === target) worst = Math.max(worst, WORST.indexOf(r.v));
  return worst < 0 ? "" : WORST[worst];
}

function bar(counts) {
  const total = Object.values(counts).reduce((a, b) => a + b, 0) || 1;
  const used = ORDER.filter(v => counts[v]);
  return [
    h("div", {class: "bar", role: "img", "aria-label": used.map(v => counts[v] + " " + SAYS[v]).join(", ")},
      used.map(v => h("i", {class: cls(v), style: `width:${100 * counts[v] / total}%`, title: counts[v] + " " + SAYS[v]}))),
    h("div", {class: "legend"}, used.map(v => h("span", {}, h("span", {class: "dot " + cls(v)}), h("b", {}, String(counts[v])), " " + SAYS[v]))),
  ];
}

// ---- overview
function overview() {
  const runs = data.targets.reduce((n, t) => n + Object.values(t.runs).reduce((a, b) => a + b, 0), 0);
  return [
    h("h1", {}, "What each TCP does with every requirement of RFC 9293"),
    h("p", {class: "lead"}, `${data.scripts.length} tests, ${runs} runs over IPv4 and IPv6. A test makes the calls of an application, plays the peer, and says which packets the TCP has to send and when. ` +
      (data.ok ? "All went as expected." : "Some failed that were not expected to.")),
    h("div", {class: "cards"}, data.targets.map(t => {
      const can = Object.entries(t.requirements).reduce((n, [v, c]) => n + (v === "N/A" || v === "UNTESTED" ? 0 : c), 0);
      return h("section", {class: "card"},
        h("h3", {}, t.name),
        h("div", {class: "big"}, String(t.requirements.PASS || 0), h("small", {}, ` of ${can} requirements that can be seen and were tested`)),
        bar(t.requirements),
        h("div", {class: "dim", style: "margin-top:16px"}, "runs"),
        bar(t.runs));
    })),
    differences(),
    footer(),
  ];
}
function differences() {
  const rows = data.requirements.filter(r => new Set(Object.values(r.verdicts)).size > 1);
  if (!rows.length || data.targets.length < 2) return null;
  return [h("h2", {}, `Where the stacks differ: ${rows.length} requirements`), requirementTable(rows)];
}
function footer() {
  return h("footer", {}, `Made by plumbline conform --html${data.version ? ", " + data.version : ""}; seed ${data.seed}. The same seed gives the same packets. This file needs nothing else.`);
}

// ---- requirements
function requirementTable(rows) {
  let group = "";
  const body = h("tbody");
  for (const r of rows) {
    if (r.group !== group) body.append(h("tr", {class: "group"}, h("td", {colspan: 5 + data.targets.length}, group = r.group)));
    body.append(h("tr", {class: "row", tabindex: 0, onclick: () => go("req/" + r.id), onkeydown: e => e.key === "Enter" && go("req/" + r.id)},
      h("td", {class: "id"}, r.id), h("td", {class: "dim hide-s"}, r.level), h("td", {class: "dim hide-s"}, "§" + r.section), h("td", {}, r.feature),
      h("td", {class: "count hide-s"}, (r.scripts || []).length ? r.scripts.length + (r.scripts.length > 1 ? " tests" : " test") : ""),
      data.targets.map(t => h("td", {}, chip(r.verdicts[t.name])))));
  }
  return h("div", {class: "wrap"}, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "ID"), h("th", {class: "hide-s"}, "level"), h("th", {class: "hide-s"}, "section"), h("th", {}, "requirement"), h("th", {class: "hide-s"}, ""),
      data.targets.map(t => h("th", {}, t.name)))), body));
}
function filtered(placeholder, list, matches, draw, select) {
  const out = h("div"), input = h("input", {type: "search", placeholder, "aria-label": placeholder});
  const choice = h("select", {"aria-label": "verdict"}, h("option", {value: ""}, "every verdict"), ORDER.map(v => h("option", {value: v}, v)));
  const update = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = list.filter(x => matches(x, words) && (!choice.value || select(x).includes(choice.value)));
    count.textContent = rows.length + " of " + list.length;
    out.replaceChildren(draw(rows));
  };
  const count = h("span", {class: "count"});
  input.addEventListener("input", update); choice.addEventListener("change", update);
  update();
  return [h("div", {class: "tools"}, input, choice, count), out];
}
const all = (words, text) => words.every(w => text.toLowerCase().includes(w));
function requirements() {
  return [h("h1", {}, "Requirements of RFC 9293"),
    h("p", {class: "lead"}, "The 119 requirements of appendix B. A requirement has the worst verdict of the tests that name it; a row opens them."),
    filtered("search: time-wait, 3.8.6, MUST", data.requirements, (r, w) => all(w, `${r.id} ${r.level} ${r.section} ${r.group} ${r.feature}`), requirementTable, r => Object.values(r.verdicts)), footer()];
}

function others() {
  return [h("h1", {}, "Requirements of other RFCs"),
    h("p", {class: "lead"}, "Congestion control, timers, timestamps, SACK, RACK, challenge ACKs, ECN, Path MTU discovery. The level is that of the key word; a rule is what the RFC says without one."),
    filtered("search: SACK, 5961, MUST", data.others, (r, w) => all(w, `${r.id} ${r.level} ${r.group} ${r.feature}`), requirementTable, r => Object.values(r.verdicts)), footer()];
}

// ---- states × events
function stateMatrix() {
  const body = h("tbody");
  let section = "";
  const SECTIONS = {"3.10.7": "Segment arrives: sequence number", "3.10.7.4": "Segment arrives: RST, SYN, ACK, URG, FIN", "3.1": "Segment arrives: checksum", "3.10.1": "OPEN call", "3.10.2": "SEND call",
    "3.10.3": "RECEIVE call", "3.10.4": "CLOSE call", "3.10.5": "ABORT call", "3.10.8": "Timeouts"};
  for (const e of data.events) {
    if (e.section !== section) body.append(h("tr", {class: "group"}, h("td", {colspan: data.states.length + 1}, "§" + (section = e.section) + "  " + (SECTIONS[section] || ""))));
    body.append(h("tr", {}, h("td", {}, h("span", {class: "ev"}, e.name), h("span", {class: "hide-s"}, e.title)),
      data.states.map(st => {
        const script = byName.get(`matrix/${st}/${e.name}`);
        if (!script) return h("td", {class: "c"});
        const verdicts = data.targets.map((t, i) => verdictOf(script, i));
        const label = `${st}, ${e.title}: ` + data.targets.map((t, i) => `${t.name} ${verdicts[i]}`).join(", ");
        return h("td", {class: "c"}, h("button", {class: "cell", title: label, "aria-label": label, onclick: () => go("test/" + script.n)},
          verdicts.map(v => h("i", {class: cls(v || "UNTESTED")}))));
      })));
  }
  return [h("h1", {}, "Every state at every event"),
    h("p", {class: "lead"}, `RFC 9293 section 3.10 as a table: what arrives, what the application calls and what times out, in each state. A cell has a stripe for each stack, ${data.targets.map(t => t.name).join(" and ")} from left to right; stripes with a hatching fail.`),
    h("div", {class: "wrap"}, h("table", {class: "grid"}, h("thead", {}, h("tr", {}, h("th", {}, "event"), data.states.map(x => h("th", {class: "c", style: "vertical-align:bottom"}, h("span", {class: "s", style: "writing-mode:vertical-rl;transform:rotate(180deg);font-family:var(--mono)"}, x))))), body)), footer()];
}

// ---- tests
function testTable(rows) {
  let section = null;
  const body = h("tbody");
  for (const x of rows) {
    const at = x.s || "no section";
    if (at !== section) body.append(h("tr", {class: "group"}, h("td", {colspan: 2 + data.targets.length}, section = at)));
    body.append(h("tr", {class: "row", tabindex: 0, onclick: () => go("test/" + x.n), onkeydown: e => e.key === "Enter" && go("test/" + x.n)},
      h("td", {}, x.t || x.n, h("div", {class: "dim", style: "font-family:var(--mono);font-size:12px"}, x.n)), h("td", {class: "dim hide-s"}, (x.r || []).join(" ")),
      data.targets.map((t, i) => h("td", {}, verdictOf(x, i) ? chip(verdictOf(x, i)) : ""))));
  }
  return h("div", {class: "wrap"}, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "test"), h("th", {class: "hide-s"}, ""), data.targets.map(t => h("th", {}, t.name)))), body));
}
const collate = new Intl.Collator("en", {numeric: true});
function tests() {
  const list = data.scripts.filter(x => !x.n.startsWith("matrix/")).sort((a, b) => collate.compare(a.s || "~", b.s || "~") || collate.compare(a.n, b.n));
  return [h("h1", {}, "Tests, by specification"),
    h("p", {class: "lead"}, "Each opens to its script and to what happened on each stack. The cells of the state matrix are on their own page."),
    filtered("search: retransmit, RFC 8985, sack", list, (x, w) => all(w, `${x.n} ${x.t || ""} ${x.s || ""} ${(x.r || []).join(" ")}`), testTable, x => x.runs.map(r => r.v)), footer()];
}
function failures() {
  const list = data.scripts.filter(x => x.runs.some(r => r.f)).sort((a, b) => collate.compare(a.s || "~", b.s || "~") || collate.compare(a.n, b.n));
  return [h("h1", {}, "Failures"), h("p", {class: "lead"}, "Known ones and new ones: what was expected, what happened, and the packets to save."),
    filtered("search", list, (x, w) => all(w, `${x.n} ${x.t || ""} ${x.s || ""}`), testTable, x => x.runs.map(r => r.v)), footer()];
}

// ---- the panel
function openPanel(...children) {
  panel.replaceChildren(h("button", {class: "close", "aria-label": "close", onclick: close}, "×"), ...children.flat(9).filter(Boolean));
  panel.classList.add("open"); panel.setAttribute("aria-hidden", "false"); panel.scrollTop = 0;
}
function close() { history.replaceState(null, "", "#" + tab); shut(); }
function shut() { panel.classList.remove("open"); panel.setAttribute("aria-hidden", "true"); }
function showRequirement(id) {
  const r = data.requirements.find(x => x.id === id) || (data.others || []).find(x => x.id === id);
  if (!r) return shut();
  openPanel(h("h2", {}, r.id), h("p", {style: "margin:0"}, r.feature), h("p", {class: "dim"}, `${r.level} · ${/^RFC/.test(r.id) ? "" : "RFC 9293 "}section ${r.section} · ${r.group}`),
    h("div", {class: "runs"}, data.targets.map(t => h("span", {style: "display:inline-flex;gap:8px;align-items:center;margin-right:14px"}, h("span", {class: "t", style: "font-family:var(--mono)"}, t.name), chip(r.verdicts[t.name])))),
    r.reason ? h("div", {class: "why NA"}, r.reason) : null,
    (r.scripts || []).length ? [h("h3", {}, "tests that name it"), testTable(r.scripts.map(n => byName.get(n)).filter(Boolean))] : null);
}
function showTest(name, chosen) {
  const x = byName.get(name);
  if (!x) return shut();
  const runs = [...x.runs].sort((a, b) => a.g - b.g || collate.compare(a.ip, b.ip));
  if (chosen === undefined) chosen = Math.max(0, runs.findIndex(r => r.f));
  const run = runs[chosen];
  openPanel(
    h("h2", {}, x.t || x.n), h("p", {class: "dim", style: "margin:0"}, h("span", {style: "font-family:var(--mono)"}, x.n), " · ", x.s || "", " ",
      (x.r || []).map(id => h("button", {class: "chip", style: "--v:var(--accent);margin-left:6px", onclick: () => go("req/" + id)}, id))),
    h("div", {class: "runs"}, runs.map((r, i) => h("button", {"aria-pressed": String(i === chosen), onclick: () => showTest(name, i)},
      h("span", {class: "t"}, data.targets[r.g].name), h("span", {class: "dim"}, "IPv" + r.ip), chip(r.v)))),
    run.why ? h("div", {class: "why " + cls(run.v)}, run.why) : null,
    run.f ? h("div", {class: "sides"}, h("div", {}, h("small", {}, "expected"), run.f.x || ""), h("div", {class: "a"}, h("small", {}, "actual"), run.f.a || "nothing")) : null,
    run.f && run.f.m !== run.why ? h("p", {class: "dim"}, run.f.m) : null,
    (run.o || []).length ? [h("h3", {}, "what the oracle says"), run.o.map(([tier, text]) => h("div", {class: "why " + (tier === "hard" ? "FAIL" : "XFAIL")}, text))] : null,
    run.tr ? [h("h3", {}, "what happened"), ladder(run)] : null,
    run.pcap ? h("a", {class: "dl", download: `${x.n.replace(/[^A-Za-z0-9]+/g, "-")}-${data.targets[run.g].name}-ipv${run.ip}.pcapng`, href: "data:application/octet-stream;base64," + run.pcap}, "save the packets (pcapng)") : null,
    (run.notes || []).length ? [h("h3", {}, "notes"), run.notes.map(n => h("p", {class: "dim"}, n))] : null,
    x.src ? [h("h3", {}, "the script"), source(x.src, run.f && run.f.l)] : h("p", {class: "dim"}, "A test in Go."));
}
function source(text, bad) {
  const pre = h("pre");
  text.replace(/\n+$/, "").split("\n").forEach((line, i) => {
    const d = h("div", {"data-n": i + 1, class: i + 1 === bad ? "bad" : undefined});
    const m = /^(\s*[+\d.*~]\S*\s+)([<>])(.*)$/.exec(line), t = /^(\s*[+\d.*]\S*\s+)(.*)$/.exec(line);
    if (/^\s*\/\//.test(line)) d.append(h("span", {class: "k"}, line));
    else if (m) d.append(h("span", {class: "tm"}, m[1]), h("span", {class: m[2] === "<" ? "in" : "out"}, m[2] + m[3]));
    else if (t) d.append(h("span", {class: "tm"}, t[1]), t[2]);
    else d.append(line);
    pre.append(d);
  });
  return pre;
}

// ladder draws a run: the peer on the left, the TCP on the right, calls beside it.
function ladder(run) {
  const W = 840, L = 120, R = 500, top = 44, step = 30;
  const entries = run.tr.slice();
  const missing = run.f && !run.f.a && /^>/.test(run.f.x || "");
  const height = top + step * (entries.length + (missing ? 1 : 0)) + 24;
  const svg = s("svg", {viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": "ladder diagram"});
  const arrow = (id, c) => s("marker", {id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto"}, s("path", {d: "M0 0 8 4 0 8z", style: `fill:var(--${c});stroke:none`}));
  svg.append(s("defs", {}, arrow("ain", "accent"), arrow("aout", "pass"), arrow("abad", "fail")));
  svg.append(s("text", {x: L, y: 24, class: "head", "text-anchor": "middle"}, "peer"), s("text", {x: R, y: 24, class: "head", "text-anchor": "middle"}, data.targets[run.g].name));
  svg.append(s("line", {x1: L, y1: 34, x2: L, y2: height - 8, class: "life"}), s("line", {x1: R, y1: 34, x2: R, y2: height - 8, class: "life"}));
  const clip = (t, n) => t.length > n ? t.slice(0, n - 1) + "…" : t;
  const label = (x, y, t, n, c, anchor) => { const e = s("text", {x, y, class: c || "", "text-anchor": anchor || "middle"}, clip(t, n)); e.append(s("title", {}, t)); svg.append(e); };
  let last = null;
  entries.forEach(([us, kind, line, text], i) => {
    const y = top + step * i + 14;
    const t = (us / 1e6).toFixed(6).replace(/0{1,4}$/, "");
    if (t !== last) label(L - 14, y + 4, t + " s", 16, "time", "end");
    last = t;
    const bad = run.f && (kind === OUTBOUND && line === 0 && us <= run.f.us + 1e9 || run.f.l === line && kind !== INBOUND && i >= entries.length - 2);
    if (kind === INBOUND || kind === OUTBOUND) {
      const c = bad ? "bad" : kind === INBOUND ? "in" : "out";
      const [x1, x2] = kind === INBOUND ? [L + 4, R - 4] : [R - 4, L + 4];
      svg.append(s("line", {x1, y1: y, x2, y2: y + 6, class: c, "stroke-width": 1.7, "marker-end": `url(#a${c})`}));
      label((L + R) / 2, y - 3, text.replace(/^[<>] /, ""), 54, bad ? "bad" : "");
    } else {
      svg.append(s("rect", {x: R + 14, y: y - 10, width: W - R - 24, height: 21, rx: 5, class: bad ? "callb" : "call"}));
      label(R + 22, y + 4.5, text, 42, kind === CALLED ? "" : "dimt", "start");
    }
  });
  if (missing) {
    const y = top + step * entries.length + 14;
    svg.append(s("line", {x1: R - 4, y1: y, x2: L + 4, y2: y + 6, class: "miss", "stroke-width": 1.7, "marker-end": "url(#abad)"}));
    label((L + R) / 2, y - 3, "missing: " + run.f.x.replace(/^> /, ""), 54, "bad");
  }
  return h("div", {class: "ladder"}, svg);
}

// ---- navigation: #tab, #req/MUST-13, #test/close/active.pkt
const TABS = {overview: ["Overview", overview], requirements: ["Requirements", requirements], tests: ["Tests", tests], failures: ["Failures", failures]};
if (data.others) TABS.others = ["Other RFCs", others];
if (data.events && data.events.length) TABS.matrix = ["State matrix", stateMatrix];
let tab = "";
function show(name) {
  if (name === tab) return;
  tab = name;
  for (const b of tabs.children) b.setAttribute("aria-selected", String(b.dataset.tab === name));
  main.replaceChildren(...TABS[name][1]().flat(9).filter(Boolean));
  scrollTo(0, 0);
}
function go(hash) { location.hash = hash; }
function route() {
  const hash = decodeURIComponent(location.hash.slice(1)), cut = hash.indexOf("/");
  const kind = cut < 0 ? hash : hash.slice(0, cut), rest = hash.slice(cut + 1);
  if (TABS[kind]) { show(kind); shut(); return; }
  if (!tab) show("overview");
  if (kind === "req") showRequirement(rest); else if (kind === "test") showTest(rest); else shut();
}
for (const name of ["overview", "requirements", "others", "matrix", "tests", "failures"]) if (TABS[name])
  tabs.append(h("button", {role: "tab", "data-tab": name, "aria-selected": "false", onclick: () => go(name)}, TABS[name][0]));
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
addEventListener("keydown", e => { if (e.key === "Escape" && panel.classList.contains("open")) close(); });
document.addEventListener("click", e => { if (panel.classList.contains("open") && main.contains(e.target) && !e.target.closest(".row, .cell")) close(); });
addEventListener("hashchange", route);
route();
})();
