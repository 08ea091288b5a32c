// Step 1: what it hears, and what of it is rendered where.

import type { NamedBlob } from "../protocol";
import type { Root } from "../shell/parts";
import type { Area } from "../store/bus";

export const dataAreas: readonly Area[] = [];
export const dataRoots: readonly Root[] = []; // data-root, validation-root

/** Files that were dropped anywhere on the page. */
export function dropData(_files: readonly NamedBlob[]): void {}
