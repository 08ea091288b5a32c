// The first thing that runs, before the page's other modules are even looked at.

import { startEarly } from "./begin";

startEarly();
