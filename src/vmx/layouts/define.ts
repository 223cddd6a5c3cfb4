import type { AccessRightsForm } from "../access-rights.ts";
import type { LayoutKind, VmcsLayout } from "../layout.ts";

/** [encoding, offset in bytes]. */
export type Place = readonly [encoding: number, offset: number];

interface Definition {
  readonly name: string;
  readonly kind: LayoutKind;
  readonly revisionId: number | undefined;
  readonly otherRevisions?: readonly number[];
  readonly accessRights: AccessRightsForm | undefined;
  readonly source: string;
  readonly confidence: string;
  /** High halves are listed only where they do not follow their low half. */
  readonly fields: readonly Place[];
  /** Not published, but where the regularity of the others puts them. */
  readonly inferred?: readonly Place[];
}

export function defineLayout({ fields, inferred = [], ...rest }: Definition): VmcsLayout {
  return {
    ...rest,
    fields: new Map([...fields, ...inferred]),
    unsure: new Set(inferred.map(([encoding]) => encoding)),
  };
}
