// Step 2: what it hears, and what of it is rendered where.

import type { Root } from "../shell/parts";
import type { Area } from "../store/bus";
import { trainArea } from "./run";
import { Stopped } from "./stopped";

export const trainAreas: readonly Area[] = [trainArea];
export const trainRoots: readonly Root[] = [["stopped-root", Stopped]];
