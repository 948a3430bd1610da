// Small figures that the reader can move. Each stands in a <figure data-play="name"> whose caption says what there is to see;
// its state is also said in words, and all controls are the browser's own, so that keyboard and screen reader have them, too.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const NS = "http://www.w3.org/2000/svg";
  const draw = (parent, tag, attributes = {}, text = "") => {
    const element = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text) element.textContent = text;
    parent.append(element);
    return element;
  };
  const html = (parent, tag, className = "", text = "") => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const fixed = (value, digits) => value.toFixed(digits).replace("-", "\u2212");
  const percent = (share) => `${Math.round(100 * share)}%`;
  const range = (count) => [...Array(count).keys()];

  // What all figures share: a stage for drawings, controls that redraw, and a line that says in words what is drawn.
  const frame = (figure) => {
    const stage = figure.querySelector("[data-stage]");
    const controls = figure.querySelector("[data-controls]");
    const words = figure.querySelector("[data-words]");
    let redraw = () => {};
    return {
      panel(width, height) {
        const svg = draw(stage, "svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
        return { width, height, clear: () => svg.replaceChildren(), add: (...rest) => draw(svg, ...rest) };
      },
      slider(name, { min, max, step, value, show = (v) => fixed(v, 2), of = (v) => v }) {
        const label = html(controls, "label");
        const row = html(label, "span", "", name);
        const output = html(row, "span", "pr-play-value");
        const input = html(label, "input");
        Object.assign(input, { type: "range", min, max, step, value });
        const read = () => of(Number(input.value));
        const tell = () => {
          output.textContent = show(read());
          input.setAttribute("aria-valuetext", show(read()));
        };
        input.addEventListener("input", () => (tell(), redraw()));
        tell();
        return { read, set: (raw) => ((input.value = raw), tell()) };
      },
      button(name, action) {
        const button = html(controls, "button", "", name);
        button.type = "button";
        button.addEventListener("click", () => (action(), redraw()));
      },
      tick(name, checked) {
        const label = html(controls, "label", "pr-play-tick");
        const input = html(label, "input");
        Object.assign(input, { type: "checkbox", checked });
        label.append(` ${name}`);
        input.addEventListener("input", () => redraw());
        return { read: () => input.checked };
      },
      run(render) {
        redraw = () => (words.textContent = render());
        redraw();
        figure.setAttribute("data-ready", "");
      },
    };
  };

  // Lanczos' approximation of log Gamma, for the constant of the Beta density.
  const logGamma = (x) => {
    const c = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 0.001208650973866179, -5.395239384953e-6];
    const t = x + 5.5 - (x + 0.5) * Math.log(x + 5.5);
    return -t + Math.log((2.5066282746310005 * c.reduce((sum, v, i) => sum + v / (x + 1 + i), 1.000000000190015)) / x);
  };

  const figures = {
    // Mixup: the ratio, where it comes from, and what it does to input and label.
    mixup(figure) {
      const play = frame(figure);
      const alphas = [0.1, 0.2, 0.4, 0.7, 1, 1.5, 2, 4, 8];
      const alpha = play.slider("α", { min: 0, max: 8, step: 1, value: 1, of: (i) => alphas[i], show: (v) => `${v}` });
      const lambda = play.slider("λ", { min: 0, max: 1, step: 0.01, value: 0.3 });
      const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
      const gamma = (a) => {
        // Marsaglia and Tsang; below one by a power of a uniform number.
        if (a < 1) return gamma(a + 1) * Math.random() ** (1 / a);
        for (;;) {
          const x = normal(), v = (1 + x / Math.sqrt(9 * a - 3)) ** 3;
          if (v > 0 && Math.log(1 - Math.random()) < x * x / 2 + (a - 1 / 3) * (1 - v + Math.log(v))) return v;
        }
      };
      play.button("Draw λ", () => {
        const [one, two] = [gamma(alpha.read()), gamma(alpha.read())];
        lambda.set(one + two ? one / (one + two) : 0.5);
      });
      const density = play.panel(330, 190), blend = play.panel(250, 190);
      play.run(() => {
        const a = alpha.read(), l = lambda.read();
        const beta = (x) => Math.exp((a - 1) * Math.log(x * (1 - x)) + logGamma(2 * a) - 2 * logGamma(a));
        const x = (v) => 20 + 290 * v, y = (v) => 150 - 120 * Math.min(v / 4, 1.1);
        density.clear();
        density.add("path", { class: "pr-axis-line", d: "M20 150 H310" });
        const points = range(291).map((i) => (i + 0.5) / 291).map((v) => `${x(v).toFixed(1)} ${y(beta(v)).toFixed(1)}`);
        density.add("path", { class: "pr-curve", d: `M${points.join(" L")}` });
        density.add("path", { class: "pr-mark", d: `M${x(l)} 16 V150` });
        for (const tick of [0, 0.5, 1]) density.add("text", { x: x(tick), y: 168, class: "pr-middle" }, `${tick}`);
        density.add("text", { x: 165, y: 184, class: "pr-middle" }, "λ, drawn from Beta(α, α)");
        blend.clear();
        blend.add("rect", { x: 70, y: 8, width: 110, height: 110, class: "pr-sheet" });
        blend.add("circle", { cx: 125, cy: 63, r: 42, class: "pr-one", "fill-opacity": l });
        blend.add("path", { d: "M125 15 L173 111 H77 Z", class: "pr-two", "fill-opacity": 1 - l });
        blend.add("rect", { x: 15, y: 132, width: 220 * l, height: 14, class: "pr-one" });
        blend.add("rect", { x: 15 + 220 * l, y: 132, width: 220 * (1 - l), height: 14, class: "pr-two" });
        blend.add("text", { x: 15, y: 166 }, `circle ${percent(l)}`);
        blend.add("text", { x: 235, y: 166, class: "pr-end" }, `triangle ${percent(1 - l)}`);
        blend.add("text", { x: 125, y: 184, class: "pr-middle" }, "input, and its label");
        const middle = range(400).reduce((sum, i) => sum + beta(0.1 + (0.8 * (i + 0.5)) / 400) * 0.002, 0);
        return `At λ = ${fixed(l, 2)} the input is ${percent(l)} circle and ${percent(1 - l)} triangle, and so is its label. ` +
          `With α = ${a}, ${percent(1 - middle)} of all draws are within a tenth of 0 or 1: almost one of the two samples.`;
      });
    },

    // The paired difference of n seeds, its interval, and the rule.
    interval(figure) {
      const play = frame(figure);
      const quantiles = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093];
      const whole = (v) => `${v}`, points = (v) => `${fixed(v, 1)} points`;
      const count = play.slider("seeds", { min: 2, max: 20, step: 1, value: 8, show: whole });
      const effect = play.slider("true effect", { min: -4, max: 4, step: 0.1, value: 1.5, show: points });
      const spread = play.slider("spread between seeds", { min: 0.1, max: 4, step: 0.1, value: 1.5, show: points });
      const margin = play.slider("margin", { min: -2, max: 2, step: 0.1, value: 0, show: points });
      // Twenty draws of a standard normal; the button draws others.
      let noise = [0.31, -1.12, 0.84, 0.12, -0.53, 1.47, -0.22, -0.71, 0.65, -1.64, 0.02, 1.02, -0.38, 0.47, -0.91, 1.88, -0.08, 0.23, -1.31, 0.58];
      play.button("Other seeds", () => {
        noise = noise.map(() => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random()));
      });
      const plot = play.panel(340, 138);
      play.run(() => {
        const n = count.read(), m = margin.read();
        const values = noise.slice(0, n).map((z) => effect.read() + spread.read() * z);
        const mean = values.reduce((a, b) => a + b) / n;
        const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (n - 1));
        const half = (quantiles[n - 2] * deviation) / Math.sqrt(n);
        const [low, high] = [mean - half, mean + half];
        const verdict = n < 5 ? "not judged" : low > m ? "holds" : high < m ? "contradicted" : "inconclusive";
        const x = (v) => 170 + 16 * Math.max(-10, Math.min(10, v));
        plot.clear();
        plot.add("path", { class: "pr-axis-line", d: `M10 100 H330 M${x(0)} 14 V100` });
        if (m) plot.add("path", { class: "pr-margin-line", d: `M${x(m)} 14 V100` });
        for (const tick of [-10, -5, 0, 5, 10]) plot.add("text", { x: x(tick), y: 116, class: "pr-middle" }, fixed(tick, 0));
        const group = plot.add("g", { class: `pr-forest pr-${verdict === "not judged" ? "unjudged" : verdict}` });
        for (const value of values) draw(group, "circle", { class: "pr-seed", cx: x(value), cy: 40, r: 4 });
        draw(group, "path", { class: "pr-interval", d: `M${x(low)} 74 H${x(high)}` });
        draw(group, "circle", { cx: x(mean), cy: 74, r: 6 });
        plot.add("text", { x: 170, y: 133, class: "pr-middle" }, "method minus baseline, points");
        const numbers = `Mean ${fixed(mean, 1)}, interval [${fixed(low, 1)}, ${fixed(high, 1)}] from ${n} seeds`;
        if (n < 5) return `${numbers}: not judged, because fewer than five seeds are refused a verdict.`;
        const place = { holds: "above", contradicted: "below", inconclusive: "on both sides of" }[verdict];
        return `${numbers}: it lies ${place} the margin of ${fixed(m, 1)}, so the claim ${verdict === "holds" ? verdict : `is ${verdict}`}.`;
      });
    },

    // Propagation on a small graph of two groups: what some hops mend, many hops destroy.
    hops(figure) {
      const play = frame(figure);
      const edges = [[0, 1], [0, 2], [1, 2], [1, 3], [2, 4], [3, 4], [0, 4], [3, 5], [5, 6], [6, 7], [6, 8], [7, 8], [7, 9], [8, 10], [9, 10], [6, 10], [10, 11]];
      const where = [[30, 60], [80, 20], [75, 105], [130, 45], [125, 100], [185, 70], [235, 70], [280, 25], [275, 115], [330, 40], [335, 100], [385, 130]];
      const group = range(12).map((i) => (i < 6 ? 0 : 1));
      // What each node's own features say, as scores of the two groups; nodes 2 and 9 are mistaken.
      const start = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.9, 0.2], [0.7, 0.3], [0.6, 0.4], [0.3, 0.8], [0.2, 0.9], [0.1, 0.7], [0.8, 0.4], [0.2, 0.8], [0.4, 0.6]];
      const links = [...edges, ...edges.map(([i, j]) => [j, i]), ...range(12).map((i) => [i, i])];
      const degree = range(12).map((i) => links.filter(([from]) => from === i).length);
      const step = (h) => h.map((_, i) => [0, 1].map((c) =>
        links.filter(([from]) => from === i).reduce((sum, [, j]) => sum + h[j][c] / Math.sqrt(degree[i] * degree[j]), 0)));
      const steps = [start];
      while (steps.length <= 200) steps.push(step(steps.at(-1)));
      const far = [...range(21), 30, 50, 100, 200];
      const hop = play.slider("hops", { min: 0, max: far.length - 1, step: 1, value: 0, of: (i) => far[i], show: (v) => `${v}` });
      const all = play.tick("average hop 0 to this one, as a gate may", false);
      const graph = play.panel(420, 160);
      play.run(() => {
        const k = hop.read();
        const chosen = all.read() ? steps.slice(0, k + 1) : [steps[k]];
        const h = range(12).map((i) => [0, 1].map((c) => chosen.reduce((sum, s) => sum + s[i][c], 0) / chosen.length));
        const unit = h.map(([a, b]) => [a / Math.hypot(a, b), b / Math.hypot(a, b)]);
        const share = h.map(([a, b]) => a / (a + b));
        const pairs = range(12).flatMap((i) => range(12).filter((j) => j !== i).map((j) => [i, j]));
        const smv = pairs.reduce((sum, [i, j]) => sum + Math.hypot(unit[i][0] - unit[j][0], unit[i][1] - unit[j][1]) / 2, 0) / pairs.length;
        const right = share.filter((s, i) => (s > 0.5 ? 0 : 1) === group[i]).length;
        graph.clear();
        for (const [i, j] of edges) graph.add("path", { class: "pr-axis-line", d: `M${where[i]} L${where[j]}` });
        where.forEach(([cx, cy], i) => {
          // From one colour to the other: shares of 0.2 and less, 0.8 and more are the pure ones.
          const tint = Math.max(0, Math.min(1, (share[i] - 0.2) / 0.6));
          graph.add("circle", { cx, cy, r: 15, class: "pr-sheet" });
          graph.add("circle", { cx, cy, r: 15, class: "pr-two", "fill-opacity": 1 - tint });
          graph.add("circle", { cx, cy, r: 15, class: "pr-one", "fill-opacity": tint });
          const wrong = (share[i] > 0.5 ? 0 : 1) !== group[i];
          graph.add("text", { x: cx, y: cy + 4.5, class: "pr-middle pr-in" }, wrong ? "✕" : group[i] ? "B" : "A");
        });
        return `After ${k} ${k === 1 ? "hop" : "hops"}${all.read() && k ? ", averaged with all before" : ""}: ` +
          `${right} of 12 nodes are on their group's side, and the smoothness value SMV is ${fixed(smv, 3)} (0: all nodes point the same way).`;
      });
    },

    // InfoNCE: what the temperature does to the weight of the candidates.
    temperature(figure) {
      const play = frame(figure);
      const others = [0.62, 0.45, 0.31, 0.2, 0.05, -0.1, -0.3];
      const positive = play.slider("similarity of the positive", { min: -1, max: 1, step: 0.01, value: 0.7 });
      const scale = { min: -1.7, max: 0.5, step: 0.05, value: -0.7, of: (v) => 10 ** v };
      const temperature = play.slider("temperature τ", scale);
      const plot = play.panel(360, 190);
      play.run(() => {
        const tau = temperature.read(), scores = [positive.read(), ...others];
        const top = Math.max(...scores);
        const weights = scores.map((s) => Math.exp((s - top) / tau));
        const total = weights.reduce((a, b) => a + b);
        const shares = weights.map((w) => w / total);
        plot.clear();
        plot.add("path", { class: "pr-axis-line", d: "M15 140 H345" });
        shares.forEach((share, i) => {
          const x = 20 + 41 * i;
          plot.add("rect", { x, y: 140 - 115 * share, width: 30, height: 115 * share, class: i ? "pr-two" : "pr-one" });
          plot.add("text", { x: x + 15, y: 134 - 115 * share, class: "pr-middle" }, percent(share));
          plot.add("text", { x: x + 15, y: 157, class: "pr-middle" }, fixed(scores[i], 2));
        });
        plot.add("text", { x: 15, y: 178 }, "positive");
        plot.add("text", { x: 345, y: 178, class: "pr-end" }, "the other candidates, by similarity");
        // The push on a negative is its share; the hardest one's part of all pushes says how sharp the loss looks.
        const hardest = shares[1] / (1 - shares[0] || 1);
        return `At τ = ${fixed(tau, 2)} the positive gets ${percent(shares[0])}, so the loss is ${fixed(Math.log(total) - (scores[0] - top) / tau, 2)}; ` +
          `${percent(hardest)} of the push away goes to the hardest of the seven others.`;
      });
    },
  };

  for (const figure of document.querySelectorAll("[data-play]")) figures[figure.dataset.play](figure);
});
