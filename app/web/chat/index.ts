// Step 3, the adapters and the dialog for another model: what they hear, and what of them is rendered where.

import type { NamedBlob } from "../protocol";
import type { Root } from "../shell/parts";
import type { Area } from "../store/bus";
import { appliedArea } from "./applied";
import { engineArea } from "./engine";

// What is being written ends before the chat gets another model: whoever hears of that stands before the engine.
export const chatAreas: readonly Area[] = [appliedArea, engineArea];
export const chatRoots: readonly Root[] = []; // chat-root, adapters-root, model-dialog-root

/** Files of an adapter that were dropped anywhere on the page. */
export function addAdapter(_files: readonly NamedBlob[]): void {}

/** Files of a model that were dropped anywhere on the page: the dialog says what they are. */
export function offerModel(_files: readonly NamedBlob[]): void {}
