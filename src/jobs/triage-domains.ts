import type { JobContext } from "../core/job.ts";
import type { FoundFile } from "../io/artefacts.ts";
import { QmpDetector } from "../triage/qmp/detector.ts";
import type { Recognised } from "./triage-artefact.ts";
import { feedLog } from "./triage-feed.ts";
import { isTold } from "./triage-told.ts";

/**
 * What a file is, once for each domain that it tells of: `virsh event --all` and `virsh qemu-monitor-event` follow every
 * domain of a host. A log of one is whosoever its name says.
 */
export async function byDomain(
  file: FoundFile,
  recognised: Recognised,
  context: JobContext,
): Promise<readonly Recognised[]> {
  if (recognised.hasDomains !== true) return [recognised];
  const names = await domainsOf(file, context);
  return names.length < 2 ? [recognised] : names.map((domain) => ({ ...recognised, domain }));
}

async function domainsOf(file: FoundFile, context: JobContext): Promise<readonly string[]> {
  try {
    const quiet = { ...context, warn: () => {} };
    const { guests } = await feedLog(file, new QmpDetector({ source: file.path }), quiet);
    return guests.flatMap(({ name }) => (name === "" ? [] : [name]));
  } catch (error) {
    // Whoever reads it says what is wrong.
    if (isTold(error)) return [];
    throw error;
  }
}
