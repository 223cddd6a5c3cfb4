import { ConsoleDetector } from "../triage/console/detector.ts";
import type { Detected } from "../triage/finding.ts";
import { MceDetector } from "../triage/mce/detector.ts";
import { withDecoded } from "../triage/mce/joined.ts";
import { withRecords } from "../triage/pstore/joined.ts";
import { QmpDetector } from "../triage/qmp/detector.ts";
import { RtasDetector } from "../triage/rtas/detector.ts";
import type { SourceKind } from "../triage/verdict/types.ts";
import { consoleText } from "./console-text.ts";
import type { Reader } from "./triage-artefact.ts";
import { triageDump } from "./triage-dump.ts";
import { feedLog } from "./triage-feed.ts";
import { triagePstore, triageStore } from "./triage-pstore.ts";
import { feedParts } from "./triage-rotated.ts";

const NOTHING: Detected = { findings: [], events: [] };

const qmp: Reader = async (input, context) => {
  const { source, commandLine, domain } = input;
  const detector = new QmpDetector({
    source,
    ...(commandLine === undefined ? {} : { cmdline: commandLine }),
  });
  const report = await feedLog(input, detector, context);
  return domain === undefined ? report : (report.guests.find(({ name }) => name === domain) ?? NOTHING);
};

const dump: Reader = ({ path }, context) =>
  triageDump(path, { guest: undefined, host: {}, console: consoleText }, context);

/** Of a store: a damaged one has as many as it has records. */
const MAX_WARNINGS = 20;

const pstore: Reader = async ({ path, files }, context) => {
  const options = { console: consoleText };
  const records = files.map((file) => file.path);
  const { warnings, ...detected } = records.some((record) => record !== path)
    ? await triageStore(records, options, context)
    : await triagePstore([path], options, context);
  for (const warning of warnings.slice(0, MAX_WARNINGS)) context.warn(warning);
  return withRecords(detected);
};

/** A console's log is read once, for what a kernel says and for what hardware does. */
class ConsoleAndHardware {
  readonly #kernel: ConsoleDetector;
  readonly #hardware: MceDetector;

  constructor(source: { readonly source: string }) {
    this.#kernel = new ConsoleDetector(source);
    this.#hardware = new MceDetector(source);
  }

  push(bytes: Uint8Array): void {
    this.#kernel.push(bytes);
    this.#hardware.push(bytes);
  }

  end(): Detected {
    const { findings, events } = this.#kernel.end();
    return { findings: withDecoded(findings, this.#hardware.end()), events };
  }
}

/** What reads each kind of artefact; what has no line here is recognised, and told of as not read. */
export const READERS: Readonly<Partial<Record<SourceKind, Reader>>> = {
  console: (input, context) => {
    const detector = new ConsoleAndHardware({ source: input.source });
    return input.files.length > 1 ? feedParts(input, detector, context) : feedLog(input, detector, context);
  },
  qmp,
  "qemu-log": qmp,
  "libvirt-log": qmp,
  rtas: (input, context) => feedLog(input, new RtasDetector({ source: input.source }), context),
  pstore,
  dump,
  "qemu-core": dump,
};
