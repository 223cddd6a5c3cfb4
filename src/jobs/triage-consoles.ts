import { printable } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { SourceDetected } from "../triage/verdict/types.ts";

/** What a console says of the kernel that ran, and how that ended. */
interface Told {
  readonly source: string;
  readonly kernels: ReadonlySet<string>;
  readonly end: "died" | "ended in order" | undefined;
}

/** Consoles that are looked at. */
const MAX_CONSOLES = 64;

/** Several consoles of one VM whose kernels or ends cannot be the same machine's; undefined where all fit. */
export function contradictingConsoles(sources: readonly SourceDetected[]): Warning | undefined {
  const consoles = sources
    .filter(({ kind }) => kind === "console")
    .slice(0, MAX_CONSOLES)
    .map(toldBy);
  for (const [index, one] of consoles.entries()) {
    for (const other of consoles.slice(0, index)) {
      const how = contradiction(other, one);
      if (how === undefined) continue;
      return {
        code: "TRI005",
        message: `${printable(other.source)} and ${printable(one.source)} were taken for consoles of one VM, but ${how}`,
        hint: "if they are of several, name each VM's files apart, or put them into a directory each",
        where: { file: one.source },
      };
    }
  }
  return undefined;
}

/** docs/triage.md, "console": a banner's event has the kernel's name in its text. */
function toldBy({ source, findings, events }: SourceDetected): Told {
  const kernels = events.flatMap(({ kind, text }) =>
    kind === "console/boot" && !text.startsWith("a boot whose banner") ? [text] : [],
  );
  const last = events.findLast(({ kind }) => kind === "console/shutdown" || kind === "console/boot");
  const died = findings.some(({ severity, survived }) => severity === "panic" && survived === false);
  const end = died ? "died" : last?.kind === "console/shutdown" ? "ended in order" : undefined;
  return { source, kernels: new Set(kernels), end };
}

function contradiction(a: Told, b: Told): string | undefined {
  if (a.kernels.size === 0 || b.kernels.size === 0) return undefined;
  if (![...a.kernels].some((kernel) => b.kernels.has(kernel))) {
    return `their kernels differ: ${[a, b].map(({ kernels }) => printable([...kernels][0]!)).join(", ")}`;
  }
  if (a.end === undefined || b.end === undefined || a.end === b.end) return undefined;
  return `by the first the guest ${a.end}, by the second it ${b.end}`;
}
