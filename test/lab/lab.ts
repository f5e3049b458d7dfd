import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must } from './exec.ts';
import { replaceFile } from './replace-file.ts';
import { carrierIsSeen, uniqueName } from './netns.ts';
import { LabNode } from './lab-node.ts';
import { Peer } from './peer-client.ts';

/** What a lab is made of. */
export interface LabOptions {
  readonly nodes: number;
  /** IPPool objects besides the default ones. */
  readonly ipv6?: boolean;
  readonly blockSize?: number;
  /** Variables of every agent, for example FELIX_IPTABLESBACKEND. */
  readonly agentEnv?: Readonly<Record<string, string>>;
  /** The flags that name the agents' datastore, instead of the lab's own folder; read when they are first needed. */
  readonly datastoreFlags?: () => readonly string[];
}

/** The pods' ranges in every lab. */
export const labPools = { v4: '10.65.0.0/16', v6: 'fd65::/48' } as const;

/**
 * Nodes on one machine: a network namespace each, with an agent of its own, joined by a bridge in a namespace that plays the fabric.
 * Everything has a name that starts with `tt<pid>`, and `dispose` removes it all, whatever happened before.
 */
export class Lab implements AsyncDisposable {
  /** Holds the datastore folder `cluster/`, and run and state dirs per node. */
  readonly dir: string;
  readonly nodes: readonly LabNode[];
  readonly prefix: string;
  readonly #fabric: string;
  readonly #pools: readonly PoolManifest[];
  #outside: Peer | undefined;

  private constructor(
    dir: string,
    prefix: string,
    fabric: string,
    nodes: readonly LabNode[],
    pools: readonly PoolManifest[],
  ) {
    this.#pools = pools;
    this.dir = dir;
    this.prefix = prefix;
    this.#fabric = fabric;
    this.nodes = nodes;
  }

  static async create(options: LabOptions): Promise<Lab> {
    const prefix = uniqueName();
    const dir = mkdtempSync(join(tmpdir(), `tortie-lab-${prefix}-`));
    mkdirSync(join(dir, 'cluster', 'pods'), { recursive: true });
    mkdirSync(join(dir, 'bpf'));
    const fabric = `${prefix}-fabric`;
    const nodes = Array.from(
      { length: options.nodes },
      (_, index) => new LabNode(dir, prefix, index + 1, options.agentEnv, options.datastoreFlags),
    );
    const lab = new Lab(dir, prefix, fabric, nodes, poolManifests(options));
    try {
      await must('mount', '-t', 'bpf', 'bpf', join(dir, 'bpf'));
      await must('ip', 'netns', 'add', fabric);
      await must('ip', '-n', fabric, 'link', 'set', 'lo', 'up');
      await must('ip', '-n', fabric, 'link', 'add', 'br0', 'up', 'type', 'bridge');
      await must('ip', '-n', fabric, 'addr', 'add', '172.31.0.1/24', 'dev', 'br0');
      await must('ip', '-n', fabric, 'addr', 'add', 'fd31::1/64', 'dev', 'br0', 'nodad');
      for (const node of nodes) await node.create(fabric);
      for (const node of nodes) await carrierIsSeen((...args) => node.exec(...args), 'uplink');
      lab.apply(
        'nodes',
        nodes.map((node) => node.manifest()),
      );
      lab.applyPools();
      lab.apply('namespace', [{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } }]);
      return lab;
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The node by its place, from 0. */
  node(index: number): LabNode {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`the lab has ${this.nodes.length} nodes`);
    return node;
  }

  /** The namespace outside all nodes, where clients of the cluster live. */
  get fabric(): string {
    return this.#fabric;
  }

  /** Of the fabric namespace, in the nodes' subnets. */
  readonly outsideAddresses = { ipv4: '172.31.0.1', ipv6: 'fd31::1' } as const;

  /** A process out there that serves (default: on the peers' port) and probes; started at the first call. */
  async outside(serves?: readonly number[]): Promise<Peer> {
    this.#outside ??= await Peer.start(`/run/netns/${this.#fabric}`, serves);
    return this.#outside;
  }

  get datastoreDir(): string {
    return join(this.dir, 'cluster');
  }

  /** Writes a file of objects into the datastore, as a user would. */
  apply(name: string, objects: readonly object[]): void {
    const text = objects.map((object) => JSON.stringify(object)).join('\n---\n');
    replaceFile(this.datastoreDir, `${name}.yaml`, `${text}\n`);
  }

  /** The lab's own pools, with these fields besides: `disabled` keeps further pods out of them. */
  applyPools(fields: Readonly<Record<string, unknown>> = {}): void {
    this.apply(
      'pools',
      this.#pools.map((pool) => ({ ...pool, spec: { ...pool.spec, ...fields } })),
    );
  }

  /** Sets the one field. */
  setBpfEnabled(enabled: boolean): void {
    this.configure({ bpfEnabled: enabled });
  }

  configure(spec: Readonly<Record<string, unknown>>): void {
    this.apply('felix', [
      { apiVersion: 'projectcalico.org/v3', kind: 'FelixConfiguration', metadata: { name: 'default' }, spec },
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    const attempt = async (step: () => Promise<unknown>) => {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    };
    await attempt(async () => this.#outside?.[Symbol.asyncDispose]());
    for (const node of this.nodes) await attempt(() => node.destroy());
    await attempt(() => must('ip', 'netns', 'del', this.#fabric));
    await attempt(() => must('umount', join(this.dir, 'bpf')));
    rmSync(this.dir, { recursive: true, force: true });
    if (failures.length > 0) throw new AggregateError(failures, 'the lab could not be taken down whole');
  }
}

interface PoolManifest {
  readonly spec: Readonly<Record<string, unknown>>;
  readonly [field: string]: unknown;
}

function poolManifests({ ipv6 = true, blockSize }: LabOptions): readonly PoolManifest[] {
  const pool = (name: string, cidr: string, size: number | undefined): PoolManifest => ({
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPPool',
    metadata: { name },
    spec: { cidr, natOutgoing: true, ...(size === undefined ? {} : { blockSize: size }) },
  });
  return [pool('v4', labPools.v4, blockSize), ...(ipv6 ? [pool('v6', labPools.v6, undefined)] : [])];
}
