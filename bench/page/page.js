// The benchmark's page: starts a worker, shows its rows as they come, offers the JSON. All measuring is in bench/*.py.
//
// `?tiny` takes tiny shapes, for a try on a software adapter.

const part = (id) => document.getElementById(id);
const status = (text, state) => { part("status").textContent = text; part("status").dataset.state = state; };
let address = null;

// From a blob, so that the page's policy holds in the worker too: see app/web/begin.js.
const createScriptURL = (script) => {
  const url = JSON.stringify(new URL(script, import.meta.url).href);
  const failed = '(error) => postMessage({ type: "failed", text: String(error?.message ?? error) })';
  return URL.createObjectURL(new Blob([`import(${url}).catch(${failed});`], { type: "text/javascript" }));
};
const addresses = window.trustedTypes?.createPolicy("lora-lab", { createScriptURL }) ?? { createScriptURL };

part("form").addEventListener("submit", (event) => {
  event.preventDefault();
  part("start").disabled = true;
  part("download").hidden = true;
  status("Starting Python", "busy");
  const worker = new Worker(addresses.createScriptURL("worker.js"), { type: "module" });
  const end = (text, state) => { status(text, state); worker.terminate(); part("start").disabled = false; };
  worker.onerror = (error) => end(error.message || "The worker could not start.", "failed");
  worker.onmessage = ({ data }) => {
    if (data.type === "ready") worker.postMessage({ quick: part("quick").checked, tiny: new URL(location.href).searchParams.has("tiny") });
    else if (data.type === "say") status(data.text, "busy");
    else if (data.type === "rows") show(JSON.parse(data.json), data.cells);
    else if (data.type === "done") { offer(data.json); end("Done.", "done"); }
    else end(data.text, "failed");
  };
});

// cells: for each row its name, value, PyTorch's value, ratio and share of the floor; a browser has no PyTorch beside it.
function show(result, cells) {
  const table = part("table");
  table.hidden = false;
  table.querySelector("caption").textContent = `${result.adapter}, ${result.host}, ${result.date}`;
  table.tBodies[0].replaceChildren(...cells.map(([name, value, , , floor]) => {
    const line = document.createElement("tr");
    for (const text of [name, value, floor]) line.insertCell().textContent = text;
    return line;
  }));
}

function offer(json) {
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(new Blob([json], { type: "application/json" }));
  const { adapter, date } = JSON.parse(json);
  const link = part("download");
  link.href = address;
  link.download = `${date}-${adapter.toLowerCase().replace(/[^a-z0-9]+/g, "-")}-browser.json`;
  link.hidden = false;
}
