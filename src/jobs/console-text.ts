import { ConsoleDetector } from "../triage/console/detector.ts";
import type { Detected } from "../triage/finding.ts";

/** Looks at a kernel's log, of a dump or out of pstore, as at a console. */
export function consoleText(source: string, text: Uint8Array): Detected {
  const detector = new ConsoleDetector({ source });
  detector.push(text);
  return detector.end();
}
