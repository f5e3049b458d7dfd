/** A node of two pods for the endpoint programs: devices in a namespace, and maps that are written by hand. */
import {
  AddressInfo,
  Backend4,
  Backend6,
  FlowFlag,
  flowMapShapes,
  FlowRecord4,
  FlowRecord6,
  FrontendKey4,
  FrontendKey6,
  Hop,
  HopKind,
  PodConfig,
  PodSlot,
  RuleAction,
  RunState,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import { macBytes, sourceKey, u32Key, u64Value } from '#dataplanes/ebpf/keys.ts';
import { loadObject, type BpfMap, type LoadedObject, type MappedArray } from '#native/bpf.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { type Leg, marks, namesOf, type Pod, podMacOf, pods, type Rule } from './bpf-flow-names.ts';
import { addressBytes, type ClassifierBed, type Version } from './classifier-bed.ts';
import { HandTables, word } from './classifier-tables.ts';

const elf = new URL('../../dist/bpf/endpoint.bpf.o', import.meta.url).pathname;
const unitOf = { allow: 1, deny: 2, 'two:80': 3 } as const;

const sizes: Readonly<Record<string, number>> = {
  tortie_sources: 64,
  tortie_rowtab: 1024,
  tortie_chunks: 1024,
  tortie_rules: 1024,
  tortie_hits: 1024,
  tortie_records: 64,
  tortie_units: 64,
  tortie_new4: 1024,
  tortie_new6: 1024,
  tortie_back4: 64,
  tortie_back6: 64,
  tortie_hops: 64,
  tortie_pods: 64,
  tortie_events: 4096 * 16,
  tortie_hosts: 64,
};

/** Nothing is asked for. */
const quiet = {
  adopting: 0,
  events: 0,
  forwardIngress: 0,
  forwardEgress: 0,
  podsHost: 0,
  eventsLost: 0,
  natFirst: 0,
  natLast: 0,
};

type ArrayName =
  | Parameters<ClassifierBed['array']>[0]
  | 'tortie_pods'
  | 'tortie_hops'
  | 'tortie_run'
  | 'tortie_hosts'
  | 'tortie_back4'
  | 'tortie_back6';

/** What programs are loaded with. */
export const podConfig: PodConfig = {
  ipv6Enabled: 1,
  ipipDenied: 1,
  vxlanDenied: 4789,
  markSeen: marks.seen,
  markHost: marks.host,
  markNotLocal: marks.notLocal,
  markUntracked: marks.untracked,
  markPreAccepted: marks.preAccepted,
};

/** A record as a test sees it. */
export interface SeenRecord {
  /** `new`, or the hash that it is in. */
  readonly map: string;
  readonly state: bigint;
  readonly packets: readonly [number, number];
  readonly bytes: readonly [number, number];
  readonly text: string;
}

/** A namespace with two pods' devices, `one` and `two`, the programs, and their maps. */
export class FlowNode implements AsyncDisposable {
  readonly netns: TestNetns;
  readonly object: LoadedObject;
  readonly #arrays = new Map<string, MappedArray>();
  readonly #devices = new Map<string, { ifindex: number; mac: string }>();
  protected readonly tables: HandTables;
  #nextBackend = 0;

  protected constructor(netns: TestNetns, object: LoadedObject) {
    this.netns = netns;
    this.object = object;
    this.tables = new HandTables(this);
  }

  /** `more`: other sizes of maps. */
  static async create(more: Readonly<Record<string, number>> = {}): Promise<FlowNode> {
    return await FlowNode.make((netns, object) => new FlowNode(netns, object), more);
  }

  protected static async make<Made extends FlowNode>(
    construct: (netns: TestNetns, object: LoadedObject) => Made,
    more: Readonly<Record<string, number>>,
  ): Promise<Made> {
    await using cleanup = new AsyncDisposableStack();
    const netns = cleanup.use(await createNetns());
    const object = cleanup.use(
      await loadObject({
        name: 'tortie',
        elf,
        maps: Object.fromEntries(
          Object.entries({ ...sizes, ...more }).map(([name, maxEntries]) => [name, { maxEntries }]),
        ),
        config: { pod_config: PodConfig.encode(podConfig) },
      }),
    );
    const made = construct(netns, object);
    await made.prepare();
    cleanup.move();
    return made;
  }

  map(name: string): BpfMap {
    return this.object.map(name);
  }

  /** The memory of an array. */
  array(name: ArrayName): MappedArray {
    const array = this.#arrays.get(name) ?? this.map(name).mmap();
    this.#arrays.set(name, array);
    return array;
  }

  /** The host's ends of the pods' devices. */
  get devices(): ReadonlyMap<string, { readonly ifindex: number; readonly mac: string }> {
    return this.#devices;
  }

  /** Writes over an element. */
  set(name: ArrayName, index: number, bytes: Uint8Array): void {
    this.array(name).value(index).set(bytes);
  }

  address(version: Version, name: string, info: AddressInfo): void {
    this.map(`tortie_addr${version}`).set(addressBytes(namesOf[version][name] ?? ''), AddressInfo.encode(info));
  }

  /** What the pods' legs say; those that aren't named say allow. */
  policy(legs: Partial<Record<Leg, Rule>> = {}): void {
    for (const [i, pod] of pods.entries()) {
      const { ifindex, mac } = this.#devices.get(pod) ?? { ifindex: 0, mac: '' };
      const ofLeg = (leg: 'egress' | 'ingress') => unitOf[legs[`${pod} ${leg}`] ?? 'allow'];
      this.set(
        'tortie_pods',
        i + 1,
        PodSlot.encode({
          unit: [ofLeg('egress'), ofLeg('egress'), ofLeg('ingress'), ofLeg('ingress')],
          ifindex,
          podMac: macBytes(podMacOf(pod)),
          hostMac: macBytes(mac),
          address4: addressBytes(namesOf[4][pod] ?? ''),
          address6: addressBytes(namesOf[6][pod] ?? ''),
          flags: 0,
        }),
      );
    }
  }

  /** Whether the pod's device is open; it is at the beginning, and after `reset`. */
  announce(pod: Pod, isOpen = true): void {
    const key = u32Key(this.#devices.get(pod)?.ifindex ?? 0);
    const devices = this.map('tortie_devices');
    if (isOpen) devices.set(key, key, 'any', { path: this.netns.path });
    else devices.delete(key);
  }

  /** Writes over a pod's slot. */
  patchSlot(pod: Pod, fields: Partial<PodSlot>): void {
    const place = this.array('tortie_pods').value(pods.indexOf(pod) + 1);
    const view = new DataView(place.buffer, place.byteOffset);
    PodSlot.write({ ...PodSlot.read(view), ...fields }, view);
  }

  runState(state: Partial<RunState> = {}): void {
    const host = { host4: addressBytes(namesOf[4]['node'] ?? ''), host6: addressBytes(namesOf[6]['node'] ?? '') };
    this.set('tortie_run', 0, RunState.encode({ ...quiet, ...host, ...state }));
  }

  /** `front:port` is answered by these, `two:8080`. */
  service(version: Version, protocol: number, port: number, backends: readonly string[]): void {
    const first = this.#nextBackend;
    this.#nextBackend = (first + backends.length) % 32;
    for (const [i, text] of backends.entries()) {
      const [name = '', target] = text.split(':');
      const value = { address: addressBytes(namesOf[version][name] ?? ''), port: Number(target) };
      if (version === 4) this.set('tortie_back4', first + i, Backend4.encode(value));
      else this.set('tortie_back6', first + i, Backend6.encode(value));
    }
    const key = { address: addressBytes(namesOf[version]['front'] ?? ''), port, protocol };
    const encoded = version === 4 ? FrontendKey4.encode(key) : FrontendKey6.encode(key);
    this.map(`tortie_front${version}`).set(encoded, u64Value(first, backends.length));
  }

  /** No flows, no Services, everything allowed, no events. */
  async reset(): Promise<void> {
    for (const pod of pods) this.announce(pod);
    this.policy();
    this.runState();
    for (const name of Object.keys(flowMapShapes)) {
      if (!/^tortie_(?:flow|new|frag|front)/.test(name)) continue;
      const map = this.map(name);
      await map.deleteMany((await map.entries()).map(({ key }) => key));
    }
  }

  /** The maps of a family's flows. */
  #flowMaps(version: Version): string[] {
    return Object.keys(flowMapShapes).filter((name) => new RegExp(`^tortie_(?:flow|new)${version}`).test(name));
  }

  /** All records (not pointers) of a family, as `one:40000 > two:80 answered ...`. */
  async records(version: Version): Promise<SeenRecord[]> {
    const found: SeenRecord[] = [];
    for (const name of this.#flowMaps(version)) {
      for (const { value } of await this.map(name).entries()) {
        const view = new DataView(value.buffer, value.byteOffset);
        const record = version === 4 ? FlowRecord4.read(view) : FlowRecord6.read(view);
        if (record.state & BigInt(FlowFlag.pointer)) continue;
        const names = Object.entries(FlowFlag)
          .filter(([, bit]) => record.state & BigInt(bit))
          .map(([flag]) => flag)
          .filter((flag) => flag !== 'opener1');
        const opener = record.state & BigInt(FlowFlag.opener1) ? 1 : 0;
        const text = (end: { readonly address: Uint8Array; readonly port: number } | undefined) =>
          `${Object.entries(namesOf[version]).find(([, address]) => addressBytes(address).join() === end?.address.join())?.[0]}:${(end?.port ?? 0) >= 0xc000 ? 'any' : end?.port}`;
        found.push({
          map: name.startsWith('tortie_new') ? 'new' : 'answered',
          state: record.state,
          packets: [Number(record.packets[0]), Number(record.packets[1])],
          bytes: [Number(record.bytes[0]), Number(record.bytes[1])],
          text: `${text(record.key.end[opener])} > ${text(record.key.end[1 - opener])} ${names.join(' ')}`,
        });
      }
    }
    return found.sort((a, b) => (a.text < b.text ? -1 : 1));
  }

  /** Empties a family's hashes of answered flows. */
  async empty(version: Version): Promise<void> {
    for (const name of this.#flowMaps(version).filter((text) => text.startsWith('tortie_flow')))
      await this.map(name).deleteMany((await this.map(name).entries()).map(({ key }) => key));
  }

  /** Takes a family's records out, and leaves the pointers. */
  async dropRecords(version: Version): Promise<void> {
    for (const name of this.#flowMaps(version)) {
      for (const { key, value } of await this.map(name).entries()) {
        const { state } = (version === 4 ? FlowRecord4 : FlowRecord6).read(
          new DataView(value.buffer, value.byteOffset),
        );
        if ((state & BigInt(FlowFlag.pointer)) === 0n) this.map(name).delete(key);
      }
    }
  }

  /** Changes the records of a family in place (a new element with the same key). */
  async patchRecords(
    version: Version,
    change: (record: FlowRecord4 | FlowRecord6) => Partial<FlowRecord4>,
  ): Promise<void> {
    for (const name of this.#flowMaps(version)) {
      for (const { key, value } of await this.map(name).entries()) {
        const view = new DataView(value.buffer, value.byteOffset);
        const codec = version === 4 ? FlowRecord4 : FlowRecord6;
        const record = codec.read(view);
        codec.write({ ...record, ...change(record) }, view);
        this.map(name).set(key, value);
      }
    }
  }

  /** Makes the devices, and says of the pods what the agent would. */
  protected async prepare(): Promise<void> {
    for (const [i, pod] of pods.entries()) {
      const mac = `ee:ee:ee:ee:ee:0${i}`;
      const peer = ['peer', 'name', `${pod}-in`, 'address', podMacOf(pod)];
      await this.netns.exec('ip', 'link', 'add', pod, 'address', mac, 'type', 'veth', ...peer);
      const [{ ifindex } = { ifindex: 0 }] = await this.netns.ip<{ ifindex: number }[]>('link', 'show', pod);
      this.#devices.set(pod, { ifindex, mac });
      this.map('tortie_slots').set(u32Key(ifindex), u64Value(ifindex, i + 1));
      this.set('tortie_hops', i + 1, Hop.encode({ kind: HopKind.pod, flags: 1, ifindex, slot: i + 1 }));
      for (const version of [4, 6] as const) {
        const address = namesOf[version][pod] ?? '';
        this.map('tortie_sources').set(sourceKey(ifindex, `${address}/${version === 4 ? 32 : 128}`), u32Key(1));
        this.address(version, pod, { class: i + 1, hop: i + 1 });
      }
    }
    this.set('tortie_hops', 10, Hop.encode({ kind: HopKind.host, flags: 0, ifindex: 0, slot: 0 }));
    for (const version of [4, 6] as const) this.address(version, 'node', { class: 0, hop: 10 });
    const { allow, deny } = RuleAction;
    this.tables.unit(unitOf.allow, { chunks: 1, rules: { 0: word(allow) } });
    this.tables.unit(unitOf.deny, { chunks: 1, rules: { 0: word(deny) } });
    for (const table of [0, 1]) this.tables.port(table as 0, 80, 5);
    this.tables.unit(unitOf['two:80'], {
      chunks: 1,
      rules: { 0: word(allow), 1: word(deny) },
      rows: { 1: { default: [1], 2: [0, 1] }, 2: { default: [1], 5: [0, 1] } },
    });
    await this.reset();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const array of this.#arrays.values()) array[Symbol.dispose]();
    this.object[Symbol.dispose]();
    await this.netns[Symbol.asyncDispose]();
  }
}
