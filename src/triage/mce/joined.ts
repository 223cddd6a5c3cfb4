import type { Detected, Finding } from "../finding.ts";

/** Rules of machine checks that are decoded, bit by bit or by the kernel's own words. */
const DECODED: ReadonlySet<string> = new Set(["mce/x86", "mce/panic", "mce/amd", "mce/power"]);
/** Lines around a console's finding in which the same error is told. */
const NEAR = 40;

/**
 * Says a console's machine checks in words: how bad they were and what came of them the console knows, what the hardware
 * said the decoder. Each stays one finding.
 */
export function withDecoded(findings: readonly Finding[], { findings: hardware }: Detected): Finding[] {
  const decoded = hardware.filter(({ rule }) => DECODED.has(rule));
  if (decoded.length === 0) return [...findings];
  return findings.map((finding) => {
    const best = finding.class === "mce" ? nearest(finding, decoded) : undefined;
    if (best === undefined) return finding;
    const { title, details, side } = best;
    const words = finding.title.includes(title) ? finding.title : title;
    return {
      ...finding,
      title: words,
      side,
      details: { ...finding.details, machineCheck: { rule: best.rule, said: finding.title, ...details } },
    };
  });
}

/** What is told next to a finding; of several the worst, for the kernel died of that. */
function nearest({ evidence }: Finding, decoded: readonly Finding[]): Finding | undefined {
  const places = evidence.flatMap(({ line }) => line ?? []);
  if (places.length === 0) return undefined;
  const [first, last] = [Math.min(...places.slice(0, 200)) - NEAR, Math.max(...places.slice(0, 200)) + NEAR];
  const isNear = (one: Finding) => one.evidence.some(({ line = -1 }) => line >= first && line <= last);
  const distance = (one: Finding) => Math.abs((one.evidence[0]?.line ?? 0) - places[0]!);
  const near = decoded.filter(isNear);
  const fatal = near.filter(({ severity }) => severity === "panic");
  return (fatal.length > 0 ? fatal : near).toSorted((a, b) => distance(a) - distance(b))[0];
}
