import { viewOf } from "../core/bytes.ts";
import {
  ACCESS_RIGHTS_FORMS,
  type AccessRightsForm,
  isAccessRights,
  loadAccessRights,
  storeAccessRights,
  UNUSABLE,
} from "./access-rights.ts";
import { fieldNamed } from "./fields.ts";
import { storedBytes, type VmcsLayout } from "./layout.ts";

/** Real regions pass in all fields; a page that is a VMCS by chance may be among them. */
const ENOUGH = 0.9;

/**
 * Settles by the regions themselves what a layout leaves open of access rights: in which form they are stored, and
 * which of several places is theirs. VM entry allows few values (Intel SDM Vol. 3C §27.3.1.2).
 * @param pages regions of the layout, 4096 bytes each
 * @returns the layout as it was where nothing is open, or the regions do not tell
 */
export function settleLayout(layout: VmcsLayout, pages: readonly Uint8Array[]): VmcsLayout {
  const guessed = layout.guessed ?? new Map<number, readonly number[]>();
  if (pages.length === 0 || (layout.accessRights !== undefined && guessed.size === 0)) return layout;
  const views = pages.map(viewOf);
  const form = layout.accessRights ?? formOf(layout, views) ?? formOfGuesses(guessed, views);
  if (form === undefined) return layout;
  const places = placesOf(guessed, form, views);
  const settled = new Set([...places].flatMap(([encoding, { length }]) => (length === 1 ? [encoding] : [])));
  const open = new Map([...guessed].filter(([encoding]) => !settled.has(encoding)));
  const isNew = layout.accessRights === undefined || settled.size > 0;
  return {
    ...layout,
    fields: new Map(
      [...layout.fields].map(([encoding, offset]) => [encoding, places.get(encoding)?.[0] ?? offset]),
    ),
    accessRights: form,
    guessed: open,
    source: isNew ? `${layout.source}; access rights by the VMCSs themselves` : layout.source,
  };
}

/** The form in which most access rights are such that VM entry allows them; of several that give the same any. */
function formOf(layout: VmcsLayout, views: readonly DataView[]): AccessRightsForm | undefined {
  const fields = [...layout.fields].filter(([encoding]) => isAccessRights(encoding));
  if (fields.length === 0) return undefined;
  const shares = ACCESS_RIGHTS_FORMS.map((form) => ({
    form,
    passed: share(fields, views, ([encoding, offset], view) => isAllowed(view, encoding, offset, form)),
  }));
  const most = Math.max(...shares.map(({ passed }) => passed));
  const best = shares.filter(({ passed }) => passed === most && passed >= ENOUGH).map(({ form }) => form);
  const values = best.map((form) =>
    views
      .flatMap((view) => fields.map(([encoding, offset]) => rightsAt(view, encoding, offset, form)))
      .join(),
  );
  return new Set(values).size === 1 ? best.at(-1) : undefined;
}

/** Packed, where that leaves one place for each field: of the other forms no place is open. */
function formOfGuesses(
  guessed: ReadonlyMap<number, readonly number[]>,
  views: readonly DataView[],
): AccessRightsForm | undefined {
  const places = [...placesOf(guessed, "packed", views).values()];
  return places.length > 0 && places.every(({ length }) => length === 1) ? "packed" : undefined;
}

const share = <T>(
  items: readonly T[],
  views: readonly DataView[],
  test: (item: T, view: DataView) => boolean,
): number => {
  let passed = 0;
  for (const view of views) for (const item of items) if (test(item, view)) passed++;
  return passed / (items.length * views.length);
};

/** The places left for each field: where its values are allowed, and no other field is for certain. */
function placesOf(
  guessed: ReadonlyMap<number, readonly number[]>,
  form: AccessRightsForm,
  views: readonly DataView[],
): ReadonlyMap<number, readonly number[]> {
  const left = new Map(
    [...guessed].map(([encoding, places]) => [
      encoding,
      places.filter(
        (place) => share([place], views, (offset, view) => isAllowed(view, encoding, offset, form)) >= ENOUGH,
      ),
    ]),
  );
  // One field's only place is no other's, which may leave that one a single place too.
  for (let found = true; found; ) {
    found = false;
    for (const [encoding, [only, ...others]] of left) {
      if (only === undefined || others.length > 0) continue;
      for (const [other, places] of left) {
        if (other === encoding || places.length < 2 || !places.includes(only)) continue;
        left.set(
          other,
          places.filter((place) => place !== only),
        );
        found = true;
      }
    }
  }
  return left;
}

const isAllowed = (view: DataView, encoding: number, offset: number, form: AccessRightsForm): boolean => {
  const rights = rightsAt(view, encoding, offset, form);
  return rights !== undefined && isPossible(encoding, rights);
};

/** Undefined where bits are set that the form does not have. */
function rightsAt(
  view: DataView,
  encoding: number,
  offset: number,
  form: AccessRightsForm,
): number | undefined {
  if (offset + storedBytes({ accessRights: form }, encoding) > view.byteLength) return undefined;
  const stored = form === "packed" ? view.getUint16(offset, true) : view.getUint32(offset, true);
  const rights = loadAccessRights(stored, form);
  return storeAccessRights(rights, form) === stored ? rights : undefined;
}

const encodingOf = (segment: string): number => fieldNamed(`GUEST_${segment}_AR_BYTES`)!.encoding;
const [CS, SS, LDTR, TR] = ["CS", "SS", "LDTR", "TR"].map(encodingOf);
/** Bits 11:8 and above 16. */
const RESERVED = 0xfffe_0f00;
const CODE_OR_DATA = 0x10;
const PRESENT = 0x80;
const LONG_AND_DEFAULT = 0x6000;
const CODE = 8;
const READABLE = 2;

/** Whether VM entry allows these access rights of a segment. */
function isPossible(encoding: number, rights: number): boolean {
  if ((rights & RESERVED) !== 0) return false;
  if ((rights & UNUSABLE) !== 0) return encoding !== CS && encoding !== TR;
  const isSystem = encoding === LDTR || encoding === TR;
  if ((rights & PRESENT) === 0 || (rights & CODE_OR_DATA) !== (isSystem ? 0 : CODE_OR_DATA)) return false;
  const type = rights & 15;
  if (encoding === TR) return type === 3 || type === 11;
  if (encoding === LDTR) return type === 2;
  if (encoding === SS) return type === 3 || type === 7;
  const isAccessed = (type & 1) !== 0;
  if (encoding === CS) {
    return (
      isAccessed && (type === 3 || (type & CODE) !== 0) && (rights & LONG_AND_DEFAULT) !== LONG_AND_DEFAULT
    );
  }
  return isAccessed && ((type & CODE) === 0 || (type & READABLE) !== 0);
}
