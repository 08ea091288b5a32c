// What to do when the browser gives the page no WebGPU: short, right for this browser, nothing else.

import { byId, create } from "./dom.js";

function browser() {
  const agent = navigator.userAgent;
  if (/Firefox\//.test(agent)) return "firefox";
  if (/Edg\//.test(agent)) return "edge";
  if (/Chrome\/|Chromium\/|CriOS\//.test(agent)) return "chrome";
  if (/Safari\//.test(agent)) return "safari";
  return "other";
}

function system() {
  const agent = navigator.userAgent;
  if (/Android/.test(agent)) return "android";
  if (/iPhone|iPad/.test(agent)) return "ios";
  if (/Linux|X11/.test(agent)) return "linux";
  return /Mac/.test(agent) ? "mac" : "windows";
}

const code = (text) => create("code", {}, text);

function steps() {
  const kind = browser(), os = system();
  const name = kind === "edge" ? "Edge" : "Chrome";
  const scheme = kind === "edge" ? "edge" : "chrome";
  if (kind === "chrome" || kind === "edge") {
    const list = [
      [`Use ${name} 113 or newer${os === "android" ? " on Android 12 or newer (121 at least)" : ""}.`],
      ["Settings → System: switch on “Use graphics acceleration when available”, then restart the browser."],
      ["Look at ", code(`${scheme}://gpu`), ": the line WebGPU should say “Hardware accelerated”."],
    ];
    if (os === "linux") {
      list.splice(2, 0, ["On Linux, open ", code(`${scheme}://flags`), " and enable ", code("#enable-unsafe-webgpu"), " and ",
        code("#enable-vulkan"), "; or start it with ", code("--enable-unsafe-webgpu --enable-features=Vulkan"), "."]);
    }
    return list;
  }
  if (kind === "firefox") {
    return [
      ["Firefox has WebGPU from version 141 on Windows and from 145 on Macs with Apple silicon: update it."],
      ["On other systems use Firefox Nightly, or open ", code("about:config"), " and set ", code("dom.webgpu.enabled"), " to ",
        code("true"), "."],
      ["Or open this page in Chrome or Edge, which have it everywhere."],
    ];
  }
  if (kind === "safari") {
    return [
      [os === "ios" ? "Safari has WebGPU from iOS and iPadOS 26 on: update the system."
        : "Safari has WebGPU from version 26 on (macOS 26 Tahoe): update the system."],
      ["On older ones: Safari → Settings → Feature Flags → WebGPU, then restart Safari."],
      ["Or open this page in Chrome 113 or newer on a Mac."],
    ];
  }
  return [["Open this page in a new Chrome, Edge, Firefox or Safari on a computer with a graphics processor."]];
}

/** Show the help with the reason that was found. */
export function showNoGpu(reason) {
  byId("no-gpu-reason").textContent = reason;
  byId("no-gpu-steps").replaceChildren(...steps().map((parts) => create("li", {}, ...parts)));
  byId("no-gpu").hidden = false;
}

/** The reason that the page itself can see, or null. */
export function missingWebGpu() {
  if (navigator.gpu) return null;
  if (!isSecureContext) return "WebGPU works only on https:// pages and on localhost; this page came over plain http://.";
  return "WebGPU is switched off or not there in this browser.";
}
