import { naming } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { checkDump } from "../dump/check.ts";
import { type Checked, type FindingGroup, Findings, FOUND } from "../dump/check-report.ts";
import { type DumpNaming, type Input, openInput } from "./input.ts";

export type { Finding, FindingGroup } from "../dump/check-report.ts";

export interface VerifyOptions extends DumpNaming {
  readonly input: string;
  /** Whether only some of the pages' contents are looked at. */
  readonly quick: boolean;
}

export interface VerifyResult {
  readonly input: Input["facts"];
  readonly format: string;
  readonly flattened: boolean;
  readonly quick: boolean;
  /** Whether nothing is damaged; there may be warnings. */
  readonly whole: boolean;
  /** Undefined where headers are so damaged that no more could be found. */
  readonly checked: Checked | undefined;
  readonly findings: readonly FindingGroup[];
}

/**
 * Tells whether a dump is whole: its tables, its notes, and all of its pages.
 * @throws UnsupportedError for a file that is no dump; CorruptError for a compressed one of which nothing can be had
 */
export function verify(options: VerifyOptions, context: JobContext): Promise<VerifyResult> {
  return naming(options.input, async () => {
    const input = await openInput(options.input, context, options);
    try {
      return await verifyInput(input, options, context);
    } finally {
      input.close();
    }
  });
}

async function verifyInput(
  input: Input,
  { quick }: VerifyOptions,
  { progress, checkpoint }: JobContext,
): Promise<VerifyResult> {
  const findings = new Findings();
  // All that unpacking warns of is that a compressed file is cut or damaged.
  for (const { message, where } of input.warnings) findings.find(FOUND.unpacking, message, where);
  const report = { find: findings.find, quick, progress, checkpoint };
  const { format, flattened, checked } = await checkDump(input.source, input.files, report);
  const { groups } = findings;
  return {
    input: input.facts,
    format,
    flattened,
    quick,
    whole: groups.every(({ severity }) => severity !== "error"),
    checked,
    findings: groups,
  };
}
