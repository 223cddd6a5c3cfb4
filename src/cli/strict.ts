import type { Coverage } from "../core/coverage.ts";
import { GapsError } from "../core/errors.ts";
import { bytesText } from "../core/text.ts";
import { isDamage, type Warning } from "../core/warnings.ts";
import type { Input } from "../jobs/input.ts";

interface Product {
  readonly coverage: Coverage;
  readonly input: Input["facts"];
  readonly warnings: readonly Warning[];
}

/**
 * What `--strict` does not let pass of a vmcore that was written.
 * @param whose whose memory it is
 * @throws GapsError when the output lacks memory, or may hold wrong bytes
 */
export function refuseGaps({ coverage, input, warnings }: Product, whose: string): void {
  const gaps = coverage.missing + coverage.excluded;
  if (gaps > 0) throw new GapsError(`${bytesText(gaps)} of ${whose} are missing from the output`);
  if (input.unpacked?.whole === false) {
    throw new GapsError("the compressed input is cut or damaged: the output may hold wrong bytes");
  }
  const damage = warnings.find(isDamage);
  if (damage !== undefined) throw new GapsError(`the input is damaged: ${damage.code}: ${damage.message}`);
}
