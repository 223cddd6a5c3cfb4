import { hex, hexAddress, plural } from "../core/text.ts";
import type { DecodedVmcs } from "../vmx/decoded.ts";
import type { MsrArea } from "../vmx/msr-area.ts";
import { describeAbort } from "../vmx/processor-state.ts";
import { uncoveredRuns, type VmcsRegion } from "../vmx/region.ts";
import {
  type Beside,
  checksJson,
  exitLine,
  fieldJson,
  msrLine,
  sectionLines,
  stateJson,
  stateLines,
  verdict,
  violationLines,
} from "./vmcs-fields.ts";

/** A VMCS region found in memory and decoded. */
export interface VmcsShow {
  /** Host-physical address of the region. */
  readonly address: number;
  readonly region: VmcsRegion;
  /** The region, 4096 bytes. */
  readonly bytes: Uint8Array;
  readonly decoded: DecodedVmcs;
  /** MSR lists that VM entry and exit go through, as far as they are in memory. */
  readonly areas?: readonly MsrArea[];
}

export interface VmcsShowFlags {
  /** Stored bytes and offset beside each value, and runs of bytes that no known field covers. */
  readonly bytes: boolean;
  /** Fields too that the processor does not use and that are 0. */
  readonly all: boolean;
  /** What to do next, the last line. */
  readonly next?: string;
}

/** Verdict and violations first, then header, registers and every field. */
export function vmcsShowText(show: VmcsShow, { bytes, all, next }: VmcsShowFlags): string {
  const { address, region, decoded } = show;
  const lines = [`VMCS at ${hexAddress(address)}: ${verdict(decoded)}`];
  lines.push(...violationLines(decoded.checks), `  ${headerText(region)}`);
  const exit = exitLine(decoded);
  if (exit !== undefined) lines.push(`  ${exit}`);
  lines.push(...stateLines(decoded.state));
  lines.push(...sectionLines(decoded.fields, all, bytes ? storedBeside(show) : undefined));
  lines.push(...(show.areas ?? []).flatMap(msrAreaLines));
  if (bytes) lines.push(...uncoveredLines(show));
  if (next !== undefined) lines.push(`next: ${next}`);
  return `${lines.join("\n")}\n`;
}

const headerText = ({ layout, revisionId, shadow, abort }: VmcsRegion): string =>
  [
    `layout ${layout.name} (${layout.confidence})`,
    `revision ${hex(revisionId, 8)}`,
    ...(shadow ? ["shadow VMCS"] : []),
    ...(abort === 0 ? [] : [`VMX abort ${abort}: ${describeAbort(abort)}`]),
  ].join(", ");

function msrAreaLines({ kind, address, count, msrs }: MsrArea): string[] {
  const lost = msrs.length < count ? `, ${msrs.length} of them readable` : "";
  return [
    `${kind} area at ${hexAddress(address)}, ${plural(count, "MSR")}${lost}`,
    ...msrs.map(({ index, value, name }) => msrLine(index, value, name)),
  ];
}

const hexBytes = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
/** Offset and as many bytes as the widest field has. */
const BYTES_WIDTH = 16;

function storedBeside({ region, bytes }: VmcsShow): Beside {
  return (encoding) => {
    const place = region.places.get(encoding);
    const stored = place === undefined ? "" : hexBytes(bytes.subarray(place.start, place.end));
    const offset = place === undefined ? "" : `+${hex(place.start, 3)}`;
    return `${offset.padEnd(6)}  ${stored.padEnd(BYTES_WIDTH)}  `;
  };
}

const LINE_BYTES = 16;

function uncoveredLines({ region, bytes }: VmcsShow): string[] {
  const runs = uncoveredRuns(bytes, region);
  if (runs.length === 0) return ["no bytes but those of known fields are other than 0"];
  const total = runs.reduce((sum, { start, end }) => sum + end - start, 0);
  const lines = [
    `bytes that no known field covers: ${plural(total, "byte")} in ${plural(runs.length, "run")}`,
  ];
  for (const { start, end } of runs) {
    for (let at = start; at < end; at += LINE_BYTES) {
      const line = bytes.subarray(at, Math.min(end, at + LINE_BYTES));
      lines.push(`  +${hex(at, 3)}  ${hexBytes(line).replace(/(.{8})(?=.)/g, "$1 ")}`);
    }
  }
  return lines;
}

/** `result` of guestcore/vmcs-show/1. */
export function vmcsShowJson({ address, region, bytes, decoded, areas = [] }: VmcsShow) {
  const { layout, revisionId, shadow, abort, places } = region;
  return {
    address,
    layout: { name: layout.name, kind: layout.kind, source: layout.source, confidence: layout.confidence },
    revisionId,
    shadow,
    abort,
    checks: checksJson(decoded.checks),
    state: stateJson(decoded.state),
    fields: decoded.fields.map((field) => {
      const place = places.get(field.encoding);
      return {
        ...fieldJson(field),
        offset: place?.start,
        bytes: place === undefined ? undefined : hexBytes(bytes.subarray(place.start, place.end)),
        unsure: layout.unsure.has(field.encoding) || undefined,
      };
    }),
    msrAreas: areas,
    uncovered: uncoveredRuns(bytes, region).map(({ start, end }) => ({
      start,
      end,
      bytes: hexBytes(bytes.subarray(start, end)),
    })),
  };
}
