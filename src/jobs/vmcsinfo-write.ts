import { GuestcoreError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { encodeNote } from "../elf/encode.ts";
import { type FileIdentity, identitiesOf } from "../io/file.ts";
import { type Output, OutputFile, refuseToOverwrite } from "../io/output.ts";
import { OutputStream } from "../io/output-stream.ts";
import { fieldText } from "../vmx/vmcsinfo/names.ts";
import {
  readVmcsInfo,
  VMCSINFO_NOTE,
  type VmcsInfo,
  type VmcsInfoOptions,
  type VmcsInfoRecord,
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

/**
 * Tells of places that the form written makes a guess of, because a note loses bits of them, and of guesses that it
 * gives as if they were none, because it says nothing of certainty.
 */
export function guessesWarning(
  info: VmcsInfo,
  { bytes }: WrittenVmcsInfo,
  form: string,
  options: VmcsInfoOptions,
): Warning[] {
  const read = new Map(recordsOf(bytes, options).map((record) => [record.encoding, record]));
  const isGuess = ({ certainty }: VmcsInfoRecord) => certainty === "ambiguous";
  const lost: number[] = [];
  const hidden: number[] = [];
  for (const record of info.records) {
    const written = read.get(record.encoding);
    if (written === undefined || record.offset === undefined) continue;
    if (isGuess(record) && !isGuess(written)) hidden.push(record.encoding);
    if (!isGuess(record) && (isGuess(written) || written.offset !== record.offset))
      lost.push(record.encoding);
  }
  const warn = (fields: readonly number[], what: string): Warning[] =>
    fields.length === 0
      ? []
      : [
          {
            code: "VMI009",
            message: `${plural(fields.length, "field")} ${what} (${fields.map(fieldText).join(", ")})`,
          },
        ];
  return [
    ...warn(lost, `cannot be placed for sure by ${form}, which loses bits of the offset`),
    ...warn(hidden, `of guessed places are written as ${form}, which does not say that they are guesses`),
  ];
}

/** None where so little was written that it is not known for what it is. */
function recordsOf(bytes: Buffer, options: VmcsInfoOptions): readonly VmcsInfoRecord[] {
  try {
    return readVmcsInfo(bytes, options).records;
  } catch (error) {
    if (error instanceof GuestcoreError) return [];
    throw error;
  }
}

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
  const warnings = [
    ...opened.warnings,
    ...leftOutWarning(written, to),
    ...guessesWarning(opened.info, written, to, options),
  ];
  for (const warning of warnings) context.warn(warning);
  const bytes = note ? encodeNote(VMCSINFO_NOTE.name, VMCSINFO_NOTE.type, written.bytes) : written.bytes;
  await writing(openOutput(output, force, opened.input.identities, context), async (product) => {
    product.write(bytes, 0, bytes.length, 0);
    await product.finish(bytes.length);
  });
  return { opened, written: { ...written, bytes }, warnings };
}

/** A file, or standard output for "-"; none of the inputs may be overwritten. */
export const openOutput = (
  path: string,
  force: boolean,
  inputs: readonly FileIdentity[],
  { checkpoint }: JobContext,
): Output => (path === "-" ? new OutputStream(1, checkpoint) : OutputFile.create(path, { force, inputs }));

/** Runs a job that writes; when it fails, what it wrote is removed. */
export async function writing<T>(output: Output, job: (output: Output) => T | Promise<T>): Promise<T> {
  try {
    return await job(output);
  } catch (error) {
    output.abandon(false);
    throw error;
  }
}
