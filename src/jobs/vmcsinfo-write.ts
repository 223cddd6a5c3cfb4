import { UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { encodeNote } from "../elf/encode.ts";
import { identitiesOf } from "../io/file.ts";
import { type Output, OutputFile, OutputStream, refuseToOverwrite } from "../io/output.ts";
import {
  VMCSINFO_NOTE,
  type VmcsInfoOptions,
  type WritableForm,
  type WrittenVmcsInfo,
  writeVmcsInfo,
} from "../vmx/vmcsinfo.ts";
import { type OpenedVmcsInfo, openVmcsInfo } from "./vmcsinfo.ts";

/** Tells of fields that the form written has no way to hold. */
export const leftOutWarning = ({ leftOut }: WrittenVmcsInfo, form: string): Warning[] => {
  const [first] = leftOut;
  if (first === undefined) return [];
  const message = `${plural(leftOut.length, "field")} could not be written as ${form}, the first because ${first.reason}`;
  return [{ code: "VMI007", message }];
};

export interface ConvertOptions extends VmcsInfoOptions {
  readonly input: string;
  /** Path, or "-" for standard output. */
  readonly output: string;
  readonly to: WritableForm | "json";
  /** Whether to put the ELF note's header and name in front. */
  readonly note: boolean;
  readonly force: boolean;
}

/** What was written; the JSON form is the reports' to write. */
export interface ConvertResult {
  readonly opened: OpenedVmcsInfo;
  readonly written: WrittenVmcsInfo;
  readonly warnings: readonly Warning[];
}

/**
 * Writes VMCSINFO in another form.
 * @throws as openVmcsInfo; UsageError, IoError for the output
 */
export async function convertVmcsInfo(
  options: ConvertOptions,
  context: JobContext,
  json: (opened: OpenedVmcsInfo) => string,
): Promise<ConvertResult> {
  const { input, output, to, note, force } = options;
  if (note && (to === "json" || to === "table")) {
    throw new UsageError(`a ${to} is no ELF note`, { hint: "--note goes with --to v1, v2 and array" });
  }
  if (output !== "-") refuseToOverwrite(output, force, identitiesOf([input]));
  const opened = await openVmcsInfo(input, options, context);
  const written =
    to === "json" ? { bytes: Buffer.from(json(opened)), leftOut: [] } : writeVmcsInfo(opened.info, to);
  const warnings = [...opened.warnings, ...leftOutWarning(written, to)];
  for (const warning of warnings) context.warn(warning);
  const bytes = note ? encodeNote(VMCSINFO_NOTE.name, VMCSINFO_NOTE.type, written.bytes) : written.bytes;
  await writing(openOutput(output, force, [input]), (product) => {
    product.write(bytes, 0, bytes.length, 0);
    product.finish(bytes.length);
  });
  return { opened, written: { ...written, bytes }, warnings };
}

/** A file, or standard output for "-"; none of the inputs may be overwritten. */
export const openOutput = (path: string, force: boolean, inputs: readonly string[]): Output =>
  path === "-" ? new OutputStream(1) : OutputFile.create(path, { force, inputs: identitiesOf(inputs) });

/** Runs a job that writes; when it fails, what it wrote is removed. */
export async function writing<T>(output: Output, job: (output: Output) => T | Promise<T>): Promise<T> {
  try {
    return await job(output);
  } catch (error) {
    output.abandon(false);
    throw error;
  }
}
