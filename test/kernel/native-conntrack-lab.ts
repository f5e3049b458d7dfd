import { dumpConntrack } from '#native/conntrack-dump.ts';
import type { ConntrackEntry, NewConntrackEntry } from '#native/conntrack-types.ts';
import { openNetlink, openNetlinkWithSysctls } from '#native/netlink.ts';
import type { Family, NetnsRef } from '#native/types.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

/** Addresses of a router between a client and a server; the server has no route to the client. */
export interface RouterFamily {
  readonly family: Family;
  readonly client: string;
  readonly toClient: string;
  readonly server: string;
  readonly toServer: string;
  readonly service: string;
  readonly bits: number;
  /** nft's family. */
  readonly table: 'ip' | 'ip6';
}

export const routerFamilies: readonly RouterFamily[] = [
  {
    family: 4,
    client: '10.65.1.2',
    toClient: '10.65.1.1',
    server: '10.65.2.2',
    toServer: '10.65.2.1',
    service: '10.96.0.1',
    bits: 24,
    table: 'ip',
  },
  {
    family: 6,
    client: 'fd65:1::2',
    toClient: 'fd65:1::1',
    server: 'fd65:2::2',
    toServer: 'fd65:2::1',
    service: 'fd96::1',
    bits: 64,
    table: 'ip6',
  },
];

/** The service's port, and where the server listens. */
export const servicePort = 80;
export const serverPort = 8080;

/** Client, router and server in namespaces of their own, with peers in the outer two. */
export class RouterLab implements AsyncDisposable {
  readonly router: TestNetns;
  readonly client: Peer;
  readonly #owned: AsyncDisposableStack;

  private constructor(router: TestNetns, client: Peer, owned: AsyncDisposableStack) {
    this.router = router;
    this.client = client;
    this.#owned = owned;
  }

  static async start(): Promise<RouterLab> {
    await using owned = new AsyncDisposableStack();
    const router = owned.use(await createNetns());
    const client = owned.use(await createNetns());
    const server = owned.use(await createNetns());
    await wire(router, client, server);
    const peer = owned.use(await Peer.start(client.path, []));
    owned.use(await Peer.start(server.path, [serverPort]));
    return new RouterLab(router, peer, owned.move());
  }

  get ref(): NetnsRef {
    return { path: this.router.path };
  }

  /**
   * Rules that translate the service to the server and the client to the router; `ct state invalid` is counted. What comes from the server and isn't
   * translated back, while there is no entry, is lost: the router's own TCP would reset the connection.
   */
  async translate({ table, service, server, toServer }: RouterFamily): Promise<void> {
    const target = table === 'ip' ? `${server}:${serverPort}` : `[${server}]:${serverPort}`;
    await this.router.exec(
      'nft',
      `table ${table} t {
        counter invalid {}
        chain pre {
          type nat hook prerouting priority -100;
          ${table} daddr ${service} meta l4proto { tcp, udp } th dport ${servicePort} dnat to ${target}
        }
        chain post { type nat hook postrouting priority 100; ${table} daddr ${server} snat to ${toServer}; }
        chain watch { type filter hook forward priority 0; ct state invalid counter name invalid drop; }
        chain own { type filter hook input priority 0; ${table} saddr ${server} meta l4proto { tcp, udp } drop; }
      }`,
    );
  }

  /** Rules that translate nothing, but keep tracking and translation going. */
  async onlyHooks({ table }: RouterFamily): Promise<void> {
    await this.router.exec('nft', `flush chain ${table} t pre; flush chain ${table} t post`);
  }

  async invalidPackets({ table }: RouterFamily): Promise<number> {
    const listed = await this.router.exec('nft', 'list', 'counter', table, 't', 'invalid');
    return Number(/packets (\d+)/.exec(listed)?.[1]);
  }

  /** The router's entries with the service's address, of a protocol. */
  async serviceEntries({ family, service }: RouterFamily, protocol: number): Promise<ConntrackEntry[]> {
    const entries = await entriesOf(family, this.ref);
    return entries.filter(({ original }) => original.destination === service && original.protocol === protocol);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#owned.disposeAsync();
  }
}

async function wire(router: TestNetns, client: TestNetns, server: TestNetns): Promise<void> {
  const sysctls = [
    { path: 'net/ipv4/ip_forward', value: '1' },
    { path: 'net/ipv6/conf/all/forwarding', value: '1' },
  ];
  const { netlink } = openNetlinkWithSysctls({ path: router.path }, sysctls);
  using ofRouter = netlink;
  for (const [name, { path }] of [
    ['c0', client],
    ['s0', server],
  ] as const) {
    await ofRouter.run([{ op: 'veth.add', name, up: true, peer: { name: 'eth0', up: true, netns: { path } } }]);
  }
  using ofClient = openNetlink({ path: client.path });
  using ofServer = openNetlink({ path: server.path });
  for (const row of routerFamilies) {
    await ofRouter.run([
      { op: 'addr.add', link: 'c0', address: `${row.toClient}/${row.bits}`, noDad: true },
      { op: 'addr.add', link: 's0', address: `${row.toServer}/${row.bits}`, noDad: true },
      // So that what isn't translated is forwarded, tracked, and lost at the server.
      {
        op: 'route.add',
        dst: `${row.service}/${row.family === 4 ? 32 : 128}`,
        via: row.server,
        link: 's0',
        onlink: true,
      },
    ]);
    await ofClient.run([
      { op: 'addr.add', link: 'eth0', address: `${row.client}/${row.bits}`, noDad: true },
      { op: 'route.add', dst: 'default', family: row.family, via: row.toClient, link: 'eth0', onlink: true },
    ]);
    await ofServer.run([{ op: 'addr.add', link: 'eth0', address: `${row.server}/${row.bits}`, noDad: true }]);
  }
}

/** All entries of a family. */
export async function entriesOf(family: Family, ns: NetnsRef): Promise<ConntrackEntry[]> {
  const entries: ConntrackEntry[] = [];
  for await (const item of dumpConntrack(family, ns)) {
    if (item.type === 'entries') entries.push(...item.entries);
    else entries.length = 0;
  }
  return entries;
}

/** A UDP entry from a port of one address to another's, both of the test's own. */
export function udpEntry(family: Family, sourcePort: number, more: Partial<NewConntrackEntry> = {}): NewConntrackEntry {
  const [source, destination] = family === 4 ? ['10.9.0.1', '10.9.0.2'] : ['fd09::1', 'fd09::2'];
  return {
    family,
    original: { source, destination, protocol: 17, sourcePort, destinationPort: 53 },
    timeoutSeconds: 600,
    ...more,
  };
}

/** Waits, by asking every 10 ms, until something is so; the test's time limit ends it otherwise. */
export async function eventually(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 10));
}
