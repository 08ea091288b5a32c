// What to do when the browser gives the page no WebGPU: short, right for this browser, nothing else.

import { gpu, missingWebGpu } from "../store/page";
import { noGpuSteps, pageText, type Browser, type System } from "../text";

function browser(): Browser {
  const agent = navigator.userAgent;
  if (/Firefox\//.test(agent)) return "firefox";
  if (/Edg\//.test(agent)) return "edge";
  if (/Chrome\/|Chromium\/|CriOS\//.test(agent)) return "chrome";
  return /Safari\//.test(agent) ? "safari" : "other";
}

function system(): System {
  const agent = navigator.userAgent;
  if (/Android/.test(agent)) return "android";
  if (/iPhone|iPad/.test(agent)) return "ios";
  if (/Linux|X11/.test(agent)) return "linux";
  return /Mac/.test(agent) ? "mac" : "windows";
}

/** The help, with the reason that was found; what stands between `…` is code. */
export function NoGpu() {
  const reason = missingWebGpu() ?? (gpu.value.state === "none" ? gpu.value.message : null);
  if (reason === null) return null;
  return (
    <section class="no-gpu" id="no-gpu" aria-labelledby="no-gpu-title">
      <div>
        <h2 id="no-gpu-title">{pageText.noGpuTitle}</h2>
        <p id="no-gpu-reason">{reason}</p>
        <p>{pageText.noGpuStill}</p>
      </div>
      <ol id="no-gpu-steps">
        {noGpuSteps(browser(), system()).map((step) => (
          <li>{step.split("`").map((part, index) => (index % 2 ? <code>{part}</code> : part))}</li>
        ))}
      </ol>
    </section>
  );
}
