// The page's entry: everything below adds to pages that work without it.

import { flashChanges, startLive } from "./live.js";
import { startMap } from "./nodemap.js";
import { startTicks } from "./ticks.js";
import { startTimes } from "./times.js";
import { startAutoForms, startCopies, startDialogs, startKeys, startLogs, startMenus, startOnce, startSwitches, startTitle, startToasts, startTypedCounts } from "./ui.js";

startTimes();
startSwitches();
startDialogs();
startTypedCounts();
startToasts();
startAutoForms();
startKeys();
startLogs();
startOnce();
startTitle();
startCopies();
startMenus();
startTicks();
flashChanges();
startMap();
startLive();
