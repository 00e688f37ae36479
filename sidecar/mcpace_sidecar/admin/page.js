"use strict";
// What the sidecar tells of its server, drawn. Names and errors come from strangers: they become text nodes
// and nothing else. The token is held by this closure alone.
(() => {
  const EVERY = 2000, LONGEST = 30000, PATIENCE = 15000; // milliseconds
  const MOST_ROWS = 300;
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  // -- text

  const OTHERS = /[\p{C}\u2028\u2029]/gu; // what is not seen, or turns around what is
  const plain = (text) =>
    String(text).replace(OTHERS, (c) => (c === "\n" ? c : `\\u{${c.codePointAt(0).toString(16)}}`));
  const cut = (text, most = 120) => (text.length > most ? `${text.slice(0, most)}…` : text);
  const three = (value) =>
    value >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  const count = (value) => value.toLocaleString("en");
  const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;
  const NONE = "–";

  function span(seconds) {
    if (seconds === null || seconds === undefined) return NONE;
    if (seconds < 0.0009995) return `${three(seconds * 1e6)} µs`;
    return seconds < 0.9995 ? `${three(seconds * 1000)} ms` : `${three(seconds)} s`;
  }

  function size(bytes) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (bytes >= 1023.5 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
    return `${three(bytes)} ${units[unit]}`;
  }

  const percent = (part, whole) => (whole ? `${three((100 * part) / whole)} %` : NONE);
  const tokens = (bytes) => `≈ ${count(Math.round(bytes / 4))}`;

  function age(seconds) {
    const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    const first = units.findIndex(([, length]) => seconds >= length);
    if (first < 0) return "0 s";
    const [[unit, length], next] = [units[first], units[first + 1]];
    const whole = Math.floor(seconds / length);
    const rest = next ? Math.floor((seconds % length) / next[1]) : 0;
    return rest ? `${whole} ${unit} ${rest} ${next[0]}` : `${whole} ${unit}`;
  }

  // -- nodes: made of text alone

  function make(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in node) node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== ""));
    return node;
  }

  const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const show = (node, shown) => { if (node.hidden === shown) node.hidden = !shown; };

  function path(line, kind) {
    const node = document.createElementNS(SVG, "path");
    node.setAttribute("d", line);
    if (kind) node.setAttribute("class", kind);
    return node;
  }

  // One curve over the half minutes; gaps where nothing was answered. `under` is drawn with the same scale.
  function curve(svg, values, under = []) {
    const [wide, high] = [100, 20];
    const known = [...values, ...under].filter((value) => value !== null);
    const drawn = JSON.stringify([values, under]);
    if (svg.dataset.drawn === drawn) return;
    svg.dataset.drawn = drawn;
    const top = Math.max(...known, 1e-9);
    const lines = (of) => {
      const x = (at) => ((of.length < 2 ? 0.5 : at / (of.length - 1)) * wide).toFixed(1);
      const parts = [];
      let part = [];
      of.forEach((value, at) => {
        if (value === null) { if (part.length) parts.push(part); part = []; return; }
        part.push([x(at), (high - (value / top) * high).toFixed(1)]);
      });
      if (part.length) parts.push(part);
      return parts;
    };
    const stroke = (parts) => parts.map((part) => (part.length === 1
      ? `M${part[0][0] - 2} ${part[0][1]}h4` : `M${part.map((point) => point.join(" ")).join("L")}`)).join("");
    const area = lines(values).filter((part) => part.length > 1).map((part) =>
      `M${part[0][0]} ${high}L${part.map((point) => point.join(" ")).join("L")}L${part.at(-1)[0]} ${high}Z`).join("");
    const paths = known.length ? [path(area, "area"), path(stroke(lines(under)), "faint"), path(stroke(lines(values)))] : [];
    svg.replaceChildren(...paths);
  }

  function canvas() {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 20");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true"); // what it shows is written beside it
    return svg;
  }

  const rates = (slices) => slices.map((slice) => (slice.seconds > 3 ? slice.count / slice.seconds : null));
  const of = (slices, name) => slices.map((slice) => slice[name] ?? null);
  const answered = (counted) => Object.values(counted.histogram).reduce((sum, part) => sum + part, 0);

  // -- the tiles

  const TILES = ["Calls a second", "95 % answered within", "From the cache", "Errors", "Limited", "In flight"];
  const tiles = TILES.map((title, at) => {
    const tile = {
      big: make("dd", { className: "big" }), small: make("dd", { className: "small" }), svg: at < 2 ? canvas() : null,
    };
    $("tiles").append(make("div", {}, make("dt", {}, title), tile.big, tile.small, tile.svg));
    return tile;
  });

  function showTiles(report) {
    const { together, slices } = report.recent;
    const fill = (at, big, small) => { say(tiles[at].big, big); say(tiles[at].small, small); };
    const calls = (number) => many(number, "call");
    fill(0, three(together.callsPerSecond), `${calls(together.count)}`);
    fill(1, span(together.p95), `p50 ${span(together.p50)} · p99 ${span(together.p99)}`);
    fill(2, percent(together.hits, answered(together)), `${calls(together.hits)}`);
    fill(3, percent(together.errors, together.count), `${calls(together.errors)}`);
    fill(4, percent(together.limited, together.count), `${calls(together.limited)}`);
    const flying = Object.values(report.inFlight).reduce((sum, part) => sum + part, 0);
    fill(5, count(flying), report.slots.queued ? `${count(report.slots.queued)} queued` : "none queued");
    curve(tiles[0].svg, rates(slices));
    curve(tiles[1].svg, of(slices, "p95"), of(slices, "p50"));
  }

  // -- the table of tools

  const EMPTY = { count: 0, errors: 0, limited: 0, hits: 0, sentBytes: 0, callsPerSecond: 0, histogram: {}, p50: null, p95: null, p99: null };
  const COLUMNS = [
    { id: "name", title: "Tool", value: (row) => row.name },
    { id: "rate", title: "Calls/s", value: (row) => row.counted.callsPerSecond, text: three, curve: (row) => rates(row.slices) },
    { id: "p50", title: "p50", value: (row) => row.counted.p50, text: span },
    { id: "p95", title: "p95", value: (row) => row.counted.p95, text: span, curve: (row) => of(row.slices, "p95") },
    { id: "p99", title: "p99", value: (row) => row.counted.p99, text: span },
    { id: "hits", title: "Hits", value: (row) => row.counted.hits, text: count, small: (row) => percent(row.counted.hits, answered(row.counted)) },
    { id: "limited", title: "Limited", value: (row) => row.counted.limited, text: count, small: (row) => percent(row.counted.limited, row.counted.count) },
    { id: "errors", title: "Errors", value: (row) => row.counted.errors, text: count, small: (row) => percent(row.counted.errors, row.counted.count) },
    { id: "flying", title: "In flight", value: (row) => row.flying, text: count },
    { id: "bytes", title: "Bytes", value: (row) => row.counted.sentBytes, text: size, small: (row) => each(row, size) },
    { id: "tokens", title: "Tokens", value: (row) => row.counted.sentBytes / 4, text: (value) => tokens(value * 4), small: (row) => each(row, tokens) },
  ];
  const own = (table, name) => (Object.hasOwn(table, name) ? table[name] : undefined); // a tool may be called toString
  const each = (row, text) => (row.counted.count ? `${text(row.counted.sentBytes / row.counted.count)} each` : "");
  const rows = new Map();
  let order = { id: "rate", down: true };
  let last = null, configured = null;

  for (const column of COLUMNS) {
    const arrow = make("i", { ariaHidden: "true" });
    const button = make("button", { type: "button" }, column.title, arrow);
    button.addEventListener("click", () => {
      order = { id: column.id, down: order.id === column.id ? !order.down : column.id !== "name" };
      if (last) showTools(last);
    });
    column.arrow = arrow;
    column.head = make("th", { scope: "col", role: "columnheader", id: `head-${column.id}` }, button);
    $("heads").append(column.head);
  }
  $("heads").append(make("th", { scope: "col", role: "columnheader", className: "plain", id: "head-do" }, "Cache"));

  function rowOf(name) {
    const cells = {};
    const tr = make("tr", { role: "row" });
    for (const column of COLUMNS) {
      if (column.id === "name") {
        const tag = make("span", { className: "tag" });
        tr.append(make("th", { scope: "row", role: "rowheader", title: cut(plain(name), 1000) }, make("bdi", {}, cut(plain(name)) || "(no name)"), tag));
        cells.tag = tag;
        continue;
      }
      const cell = { text: make("span"), small: make("small"), svg: column.curve ? canvas() : null };
      tr.append(make("td", { role: "cell", "data-label": column.title, "data-column": column.id }, cell.text, column.small ? cell.small : null, cell.svg));
      cells[column.id] = cell;
    }
    const last = make("td", { role: "cell" });
    tr.append(last);
    cells.purge = null;
    cells.last = last;
    return { name, tr, cells, counted: EMPTY, slices: [], flying: 0 };
  }

  function showTools(report) {
    const names = new Set([...Object.keys(report.calls), ...report.tools]);
    for (const [name, row] of rows) if (!names.has(name)) { row.tr.remove(); rows.delete(name); }
    const readOnly = new Set(report.readOnlyTools), open = new Set(report.breakers);
    const cached = new Map((configured?.cache?.tools ?? []).map((tool) => [tool.name, tool]));
    const wanted = $("find").value.trim().toLowerCase();
    const column = COLUMNS.find((each) => each.id === order.id);
    const all = [...names].map((name) => {
      const row = rows.get(name) ?? { name };
      row.counted = own(report.calls, name) ?? EMPTY;
      row.slices = own(report.recent.tools, name) ?? [];
      row.flying = own(report.inFlight, name) ?? 0;
      return row;
    });
    const found = all.filter((row) => row.name.toLowerCase().includes(wanted));
    found.sort((a, b) => {
      const [x, y] = [column.value(a), column.value(b)];
      if (x === null || y === null) return (x === null) - (y === null) || (a.name < b.name ? -1 : 1);
      const least = x < y ? -1 : x > y ? 1 : 0;
      return (order.down ? -least : least) || (a.name < b.name ? -1 : 1);
    });
    const shown = found.slice(0, MOST_ROWS);
    const kept = new Set(shown.map((row) => row.name));
    const held = $("rows").contains(document.activeElement); // nobody's button is moved away from under them
    for (const [name, row] of rows) if (!kept.has(name)) { row.tr.remove(); rows.delete(name); }
    shown.forEach((data, at) => {
      let row = rows.get(data.name);
      if (!row) { row = Object.assign(rowOf(data.name), { counted: data.counted, slices: data.slices, flying: data.flying }); rows.set(data.name, row); }
      fillRow(row, { readOnly: readOnly.has(row.name), open: open.has(row.name), cached: cached.get(row.name) });
      if ($("rows").children[at] !== row.tr && (!held || !row.tr.isConnected)) $("rows").insertBefore(row.tr, $("rows").children[at] ?? null);
    });
    for (const each of COLUMNS) {
      const sorted = each.id === order.id;
      say(each.arrow, sorted ? (order.down ? "↓" : "↑") : "");
      if (sorted) each.head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      else each.head.removeAttribute("aria-sort");
    }
    show($("head-do"), shown.some((row) => cached.has(row.name)));
    const hidden = found.length - shown.length;
    show($("none"), !shown.length || hidden > 0);
    say($("none"), hidden ? `and ${count(hidden)} more: find them by name` : names.size ? "No tool of that name." : "The server has listed no tool yet.");
  }

  function fillRow(row, { readOnly, open, cached }) {
    row.tr.classList.toggle("idle", !row.counted.count);
    const tags = [readOnly && "read-only", cached && `cached ${cached.ttl}`, open && "⚠ circuit breaker open"];
    say(row.cells.tag, tags.filter(Boolean).join(" · "));
    for (const column of COLUMNS) {
      const cell = row.cells[column.id];
      if (!cell) continue;
      const value = column.value(row);
      say(cell.text, value === null ? NONE : column.text(value));
      if (column.small) say(cell.small, row.counted.count ? column.small(row) : "");
      if (cell.svg) curve(cell.svg, column.curve(row));
    }
    cellColour(row.cells.errors, row.counted.errors, "bad");
    cellColour(row.cells.limited, row.counted.limited, "warn");
    if (cached && !row.cells.purge) {
      row.cells.purge = purger("Purge", `Purge the results of ${cut(plain(row.name))}`, { tool: row.name });
      row.cells.last.append(row.cells.purge);
    } else if (!cached && row.cells.purge) {
      row.cells.purge.remove();
      row.cells.purge = null;
    }
  }

  const cellColour = (cell, value, kind) => cell.text.classList.toggle(kind, value > 0);

  // Asks once more before it purges: what was kept is fetched anew, from the server.
  function purger(word, label, what) {
    const button = make("button", { type: "button", ariaLabel: label }, word);
    let sure = false;
    const reset = () => { sure = false; say(button, word); button.ariaLabel = label; };
    button.addEventListener("blur", reset);
    button.addEventListener("click", async () => {
      if (!sure) { sure = true; say(button, "Really?"); button.ariaLabel = `${label}: press again`; return; }
      reset();
      try {
        await ask("purge", { method: "POST", body: JSON.stringify(what) });
        say(button, "Purged");
        button.ariaLabel = `${label}: done`;
      } catch (error) {
        troubled(`The purge failed: ${error.message}`);
      }
    });
    return button;
  }

  // -- the cards

  const cards = new Map();

  function card(title, big, lines, part = null, kind = "") {
    let known = cards.get(title);
    if (!known) {
      const bar = make("div", { className: "bar", ariaHidden: "true" }, make("i"));
      known = { big: make("p", { className: "big" }), bar, lines: make("div", { className: "soft" }) };
      known.card = make("div", { className: "card" }, make("h3", {}, title), known.big, bar, known.lines);
      if (title === "Cache") known.card.append(purger("Purge everything", "Purge everything", { all: true }));
      cards.set(title, known);
      $("room").append(known.card);
    }
    known.seen = true;
    say(known.big, big);
    known.big.className = `big ${kind}`;
    show(known.bar, part !== null);
    if (part !== null) known.bar.firstChild.style.width = `${Math.min(100, 100 * part).toFixed(1)}%`;
    const words = lines.map(plain);
    if (known.said !== words.join("\0")) known.lines.replaceChildren(...words.map((line) => make("p", {}, line)));
    known.said = words.join("\0");
  }

  function showRoom(report) {
    for (const each of cards.values()) each.seen = false;
    const { cache, pool, slots, breakers, stores, processes, doors } = report;
    card("Cache", size(cache.bytes), [`of ${size(cache.ofBytes)} in memory · ${many(cache.results, "result")}`],
      cache.ofBytes ? cache.bytes / cache.ofBytes : 0);
    if (pool) {
      card("Connections to the server", `${count(pool.open)} open`,
        [`${count(pool.idle)} idle · ${count(pool.waiting)} waiting for one · at most ${count(pool.of)}`, `${count(pool.opened)} opened in all`], pool.open / pool.of);
    }
    const bounded = slots.of !== null;
    card("Slots", bounded ? `${count(slots.taken)} of ${count(slots.of)} taken` : `${count(slots.taken)} taken`,
      [bounded ? `${count(slots.queued)} of ${count(slots.queueOf)} queued` : "nothing bounds calls at once"], bounded ? slots.taken / slots.of : null);
    const names = breakers.map((name) => (name === "" ? "the whole server" : cut(plain(name))));
    card("Circuit breakers", names.length ? `⚠ ${names.length} open` : configured?.concurrency?.circuitBreaker ? "✓ closed" : "none",
      names.length ? names : [configured?.concurrency?.circuitBreaker ? "calls pass" : "concurrency.circuitBreaker is not set"], null, names.length ? "bad" : "");
    card("Sessions", count(report.sessions), [report.relays ? "any replica serves them" : "of clients before MCP 2026-07-28"]);
    const links = Object.entries(stores);
    const down = links.filter(([, up]) => !up).length;
    card("Redis", !links.length ? "not used" : down ? `⚠ ${down} of ${links.length} away` : "✓ answers",
      links.length ? links.map(([name, up]) => `${name}: ${up ? "up" : "down"}`) : ["limits and results are this replica's own"], null, down ? "bad" : "");
    if (processes) {
      const failed = Object.entries(processes.failed).map(([reason, number]) => `${count(number)} starts failed: ${reason}`);
      card("Processes", `${count(processes.running)} running`,
        [`${count(processes.starting)} starting · ${count(processes.waiting)} waiting for one`, `${count(processes.starts)} started · ${count(processes.crashes)} crashed`, ...failed, ...(processes.problem ? [cut(processes.problem, 500)] : [])]);
    }
    for (const [name, door] of Object.entries(doors)) {
      card(`Door ${plain(name)}`, many(door.requests, "request"), [`over ${many(door.connections, "connection")}`]);
    }
    for (const [title, each] of cards) if (!each.seen) { each.card.remove(); cards.delete(title); }
  }

  // -- limits, checklist, what is to mend

  let limitsSaid = "";

  function showLimits(report) {
    const limits = configured?.rateLimits;
    const said = JSON.stringify([limits, report.limited]);
    if (said === limitsSaid) return;
    limitsSaid = said;
    if (!limits) {
      const words = configured ? "Anybody may call as often as they like: rateLimits is not set." : "";
      $("limits").replaceChildren(make("p", { className: "soft pad" }, words));
      return;
    }
    const normal = limits.defaultTier ?? limits.tiers[0].name;
    const refused = (tier) => report.limited.filter((each) => each.tier === tier);
    const body = limits.tiers.map((tier) => {
      const by = refused(tier.name);
      const sum = by.reduce((total, each) => total + each.calls, 0);
      const how = by.map((each) => `${each.limit} ${count(each.calls)}`).join(" · ");
      return make("tr", { role: "row" },
        make("th", { scope: "row" }, tier.name, tier.name === normal ? make("span", { className: "soft" }, " · by default") : null),
        make("td", {}, count(tier.requestsPerMinute)),
        make("td", {}, tier.requestsPerDay === null ? "no quota" : count(tier.requestsPerDay)),
        make("td", {}, make("span", { className: sum ? "warn" : "" }, count(sum)), how ? make("div", { className: "soft" }, how) : null));
    });
    const heads = ["Tier", "Calls a minute", "Calls a day", "Refused since the start"];
    const table = make("table", { ariaLabel: "Limits by tier" },
      make("thead", {}, make("tr", {}, ...heads.map((title) => make("th", { scope: "col" }, title)))), make("tbody", {}, ...body));
    const single = ["tools", "prompts", "resources"].flatMap((kind) => (limits[kind] ?? []).map((limit) => {
      const often = limit.requestsPerMinute === null ? "" : `${count(limit.requestsPerMinute)} a minute, ${limit.per === "server" ? "all clients together" : "each client"}`;
      const cost = limit.cost === 1 ? "" : `a call costs ${count(limit.cost)}`;
      return make("li", {}, make("b", {}, cut(plain(limit.name))), [often, cost].filter(Boolean).join("; "));
    }));
    $("limits").replaceChildren(table, ...(single.length ? [make("ul", { className: "list", ariaLabel: "Limits of single tools, prompts and resources" }, ...single)] : []));
  }

  const RESULTS = { Passed: ["✓", "good"], Failed: ["✗", "bad"], Unknown: ["?", "dim"] };

  function list(node, section, items) {
    show(section, items.length > 0);
    const said = JSON.stringify(items);
    if (node.dataset.said === said) return;
    node.dataset.said = said;
    node.replaceChildren(...items.map(({ mark, kind, title, words, mend }) => make("li", {},
      make("b", { className: kind }, `${mark} ${plain(title)}`), cut(plain(words), 1000), mend ? make("code", {}, plain(mend)) : null)));
  }

  function showWords(report) {
    show($("unjudged"), !report.checklist.length);
    list($("checks"), $("checks"), report.checklist.map((item) => {
      const [mark, kind] = RESULTS[item.result] ?? RESULTS.Unknown;
      return { mark, kind, title: `${item.result}: ${item.name.replace(/\B[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)}`, words: item.evidence, mend: item.mend };
    }));
    list($("notes"), $("s-notes"), [
      ...report.findings.map((finding) => ({ mark: "⚠", kind: "warn", title: finding.reason, words: finding.message })),
      ...report.missingSecrets.map((name) => ({ mark: "⚠", kind: "warn", title: "MissingSecret", words: `The Secret ${name} is not there: its clients are unknown.` })),
      ...report.unknownFields.map((name) => ({ mark: "⚠", kind: "warn", title: "UnknownField", words: `${name} is unknown to this version of the sidecar, and ignored.` })),
    ]);
  }

  // -- the configuration, as it would be written

  const scalar = (value) =>
    typeof value === "string" && !/^[A-Za-z/][\w./:-]*$/.test(value) ? JSON.stringify(value) : String(value);

  function* written(value, place, indent) {
    const list = Array.isArray(value);
    for (const [key, member] of Object.entries(value)) {
      const at = list ? `${place}[${key}]` : place ? `${place}.${key}` : key;
      const label = list ? "- " : `${scalar(key)}: `;
      const nested = member !== null && typeof member === "object";
      if (!nested || !Object.keys(member).length) {
        yield [at, indent, label, nested ? (Array.isArray(member) ? "[]" : "{}") : scalar(member)];
      } else if (list) {
        const [[first, , key, said], ...others] = written(member, at, indent + 2);
        yield [first, indent, label + key, said];
        yield* others;
      } else {
        yield [at, indent, label.trimEnd(), ""];
        yield* written(member, at, indent + 2);
      }
    }
  }

  function showConfig(config) {
    const { findings: _, lines = {}, ...fields } = config;
    const some = Object.keys(lines).length > 0;
    $("config").replaceChildren(...[...written(fields, "", 0)].map(([place, indent, label, value]) => make("div", {},
      some ? make("i", { title: lines[place] ? `line ${lines[place]} of the manifest` : "a default" }, lines[place] ? String(lines[place]) : "·") : null,
      make("span", {}, " ".repeat(indent) + plain(label)), plain(value))));
  }

  // -- asking

  let token = null, timer = null, asking = null, failures = 0, since = null, paused = false, polls = 0, took = 0;

  class Refused extends Error {}

  async function ask(where, options = {}) {
    const headers = { "Mcpace-Page": "1" };
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    if (options.body) headers["Content-Type"] = "application/json";
    const answer = await fetch(where, {
      ...options, headers, cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.status === 401) throw new Refused("the token was refused");
    if (!answer.ok) throw new Error(`the sidecar answered ${answer.status}: ${cut(plain(await answer.text()), 300).trim()}`);
    return answer.json();
  }

  const clock = (date) => date.toLocaleTimeString("en-GB");

  const STATES = { wait: ["○", "Connecting"], gate: ["○", "Locked"], live: ["●", "Live"], lost: ["✗", "Disconnected"], held: ["‖", "Paused"], unready: ["!", "Not ready"] };

  function state(kind, when) {
    const [mark, word] = STATES[kind];
    const shown = { unready: "lost", gate: "wait" }[kind] ?? kind;
    if ($("state").dataset.kind !== shown) $("state").dataset.kind = shown;
    say($("mark"), mark);
    say($("word"), word);
    say($("when"), when);
  }

  function troubled(words) {
    show($("trouble"), Boolean(words));
    say($("trouble"), words);
  }

  function gate(words) {
    token = null;
    last = configured = null;
    clearTimeout(timer);
    for (const id of ["shown", "pause", "forget"]) show($(id), false);
    troubled("");
    show($("gate"), true);
    say($("gate-said"), words);
    $("token").value = "";
    $("token").ariaInvalid = words ? "true" : "false";
    state("gate", "");
    $("token").focus();
  }

  async function poll() {
    clearTimeout(timer);
    if (asking || document.hidden || paused) return;
    const began = performance.now();
    const used = token;
    asking = (async () => {
      const report = await ask("stats?recent");
      if (configured === null || polls % 15 === 0) {
        configured = await ask("config");
        showConfig(configured);
      }
      return report;
    })();
    try {
      const report = await asking;
      took = performance.now() - began;
      if (used !== token) return;
      polls += 1;
      failures = 0;
      since = null;
      heard(report);
    } catch (error) {
      if (used !== token) return;
      if (error instanceof Refused) {
        gate(token === null ? "" : "That token was refused.");
        return;
      }
      lost(error);
    } finally {
      asking = null;
      again();
    }
  }

  function again() {
    clearTimeout(timer);
    if ($("gate").hidden && !document.hidden && !paused) timer = setTimeout(poll, wait());
  }

  // Polite: no oftener than a tenth of the time is spent on it, and ever more seldom where nobody answers.
  const wait = () => (failures ? Math.min(LONGEST, EVERY * 2 ** failures) : Math.max(EVERY, 9 * took));

  function heard(report) {
    last = report;
    const server = report.server;
    const name = server ? cut(plain(server.name)) || "A server without a name" : "MCP server";
    say($("name"), name);
    say($("about"), [server && `version ${cut(plain(server.version), 60)}`, server && `MCP ${cut(plain(server.protocolVersion), 40)}`,
      many(report.tools.length, "tool"), `sidecar ${report.sidecar}`, `up ${age(report.uptimeSeconds)}`].filter(Boolean).join(" · "));
    document.title = `${name} · mcpace`;
    show($("gate"), false);
    for (const id of ["shown", "pause"]) show($(id), true);
    show($("forget"), token !== null);
    $("shown").classList.remove("stale");
    troubled(report.ready ? "" : `The server is not ready. ${cut(plain(report.problem), 1000)}`);
    showTiles(report);
    showTools(report);
    showRoom(report);
    showLimits(report);
    showWords(report);
    if (!paused) state(report.ready ? "live" : "unready", `at ${clock(new Date())}`);
  }

  function lost(error) {
    failures += 1;
    since ??= new Date();
    $("shown").classList.add("stale");
    const why = error.name === "TimeoutError" ? "it is silent" : error instanceof TypeError ? "it does not answer" : error.message;
    troubled(`Disconnected since ${clock(since)}: ${why}. ${last ? "The numbers are those of then." : ""}`);
    state("lost", `asking again every ${age(wait() / 1000)}`);
  }

  $("gate").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = $("token").value.trim();
    // What is no token is none that was given: a header holds no other characters.
    if (!/^[\x21-\x7e]+$/.test(given)) { gate("A token has no spaces, and none but ASCII characters."); return; }
    token = given;
    $("token").value = "";
    show($("gate"), false);
    state("wait", "");
    poll().then(() => { if ($("gate").hidden) $("main").focus(); });
  });
  $("forget").addEventListener("click", () => gate(""));
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").ariaPressed = String(paused);
    if (paused) { clearTimeout(timer); state("held", `since ${clock(new Date())}`); } else poll();
  });
  $("find").addEventListener("input", () => { if (last) showTools(last); });
  document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(timer); else if ($("gate").hidden) poll(); });
  poll();
})();
