// The first import of freeze.mjs: a clock that stands still, no chance, no place and no language, so that a memory that is
// made twice is the same to the byte, whoever makes it and wherever. What of it the page's Python needs anew it takes
// anew: the time is asked for each time, and `unpack` (app/web/worker/python.js) seeds the random numbers.

const MADE_MS = Date.UTC(2020, 0, 1);

process.env.TZ = "UTC";
Date.now = () => MADE_MS;
performance.now = () => 0;
Math.random = () => 0.5;
crypto.getRandomValues = (view) => {
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength).fill(7);
  return view;
};

/** What Python finds as its environment. With a seed given, equal strings have equal hashes, and sets one order. */
export const ENVIRONMENT = { HOME: "/home/pyodide", LANG: "C.UTF-8", PYTHONHASHSEED: "0", _: "python" };
