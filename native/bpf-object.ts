import { readFile } from 'node:fs/promises';
import { bpfAddon } from './bpf-addon.ts';
import { verifierSummary } from './bpf-log.ts';
import { BpfMap } from './bpf-map.ts';
import { BpfProgram } from './bpf-program.ts';
import type { NetlinkFailure } from './types.ts';

/** What is known of a refused program besides NetlinkFailure. */
export interface VerifierFailure extends NetlinkFailure {
  readonly program: string;
  /** The verifier's whole log; the message has its last useful lines. */
  readonly verifierLog: string;
}

/** What to load, as data. */
export interface ObjectSpec {
  /** At most 64 characters; the first seven become the prefix of the kernel's names for internal maps. */
  readonly name: string;
  /** The ELF file's path or content. */
  readonly elf: string | Uint8Array;
  /**
   * Per map: another size, or a map that exists already and takes its place (its shape must match: see `openPinnedMap`). A map that the object
   * doesn't have is an error, but for `ifThere`.
   */
  readonly maps?: Readonly<
    Record<string, { readonly maxEntries?: number; readonly use?: BpfMap; readonly ifThere?: boolean }>
  >;
  /** Values of read-only variables (`const volatile`), which the program then has as constants. */
  readonly config?: Readonly<Record<string, Uint8Array>>;
  /**
   * Only these programs are loaded (absent: all). `attachType` (linux/bpf.h, enum bpf_attach_type) where the program's section doesn't say
   * what it will be attached to and the verifier must know. All maps of the object are made, whoever uses them.
   */
  readonly programs?: Readonly<Record<string, { readonly attachType?: number }>>;
}

/** Maps and programs of one loaded object, by their names in C. Disposing closes all of them; what is pinned or attached stays. */
export class LoadedObject implements Disposable {
  readonly #maps: ReadonlyMap<string, BpfMap>;
  readonly #programs: ReadonlyMap<string, BpfProgram>;

  constructor(maps: ReadonlyMap<string, BpfMap>, programs: ReadonlyMap<string, BpfProgram>) {
    this.#maps = maps;
    this.#programs = programs;
  }

  map(name: string): BpfMap {
    return this.#maps.get(name) ?? missing('map', name, this.#maps);
  }

  program(name: string): BpfProgram {
    return this.#programs.get(name) ?? missing('program', name, this.#programs);
  }

  /** All that were loaded. */
  get programs(): readonly BpfProgram[] {
    return [...this.#programs.values()];
  }

  [Symbol.dispose](): void {
    for (const handle of [...this.#maps.values(), ...this.#programs.values()]) handle[Symbol.dispose]();
  }
}

function missing(kind: string, name: string, among: ReadonlyMap<string, unknown>): never {
  throw Object.assign(new Error(`the BPF object has no ${kind} ${name}, only ${[...among.keys()].join(', ')}`), {
    code: 'ENOENT',
  });
}

/**
 * Loads an object on a worker (10-500 ms). Throws a VerifierFailure when the verifier refuses a program, else NetlinkFailure with
 * libbpf's words (`code` `ERR_BPF_OBJECT` for a file that is no usable object). Nothing stays in the kernel when it fails.
 */
export async function loadObject(spec: ObjectSpec): Promise<LoadedObject> {
  const bytes = typeof spec.elf === 'string' ? await readFile(spec.elf) : spec.elf;
  try {
    const loaded = await bpfAddon().bpfLoad({
      name: spec.name,
      bytes,
      maps: Object.entries(spec.maps ?? {}).map(([name, wish]) => ({
        name,
        ...(wish.maxEntries === undefined ? {} : { maxEntries: wish.maxEntries }),
        ...(wish.use === undefined ? {} : { fd: wish.use.fd }),
        ...(wish.ifThere === undefined ? {} : { ifThere: wish.ifThere }),
      })),
      config: Object.entries(spec.config ?? {}).map(([name, value]) => ({ name, bytes: value })),
      ...(spec.programs === undefined
        ? {}
        : { programs: Object.entries(spec.programs).map(([name, wish]) => ({ name, ...wish })) }),
    });
    return new LoadedObject(
      new Map(Object.entries(loaded.maps).map(([name, raw]) => [name, BpfMap.own(raw)])),
      new Map(Object.entries(loaded.programs).map(([name, raw]) => [name, BpfProgram.own(raw)])),
    );
  } catch (error) {
    throw withVerifierWords(error);
  }
}

function withVerifierWords(error: unknown): unknown {
  const failure = error as Partial<VerifierFailure> & { message?: string };
  if (failure.verifierLog === undefined) return error;
  const words = verifierSummary(failure.verifierLog);
  if (words.length > 0) failure.message = `${failure.message}:\n${words.map((line) => `  ${line}`).join('\n')}`;
  return error;
}
