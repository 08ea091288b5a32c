// How Python calls what JavaScript answers with a promise: lora_lab/javascript.py is the other half.

/**
 * Call a method now, and return a promise that is never rejected: { ok, value, name, message }.
 *
 * Pyodide turns a rejection into a Python exception only where the reason is an Error or a DOMException of old. With any
 * other reason (newer browsers reject with a QuotaExceededError that is neither) the await in Python never ends.
 */
export function settledCall(target, name, ...values) {
  const answer = (ok, value, error) => ({
    ok, value: value ?? null, name: ok ? "" : String(error?.name ?? "Error"), message: ok ? "" : String(error?.message ?? error),
  });
  return new Promise((resolve) => resolve(target[name](...values)))
    .then((value) => answer(true, value), (error) => answer(false, null, error));
}
