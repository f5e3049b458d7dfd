/** A lab of two nodes with a policy that lets some through and others not, and what both kinds send all the time. */
import { startAgentLab } from '#test/lab/agent-lab.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import type { RunningStream } from '#test/lab/peer-client.ts';
import { losses, Traffic } from '#test/lab/traffic.ts';
import { capabilitiesOf, combinations, type Combination } from '../contract/combinations.ts';
import type { Manifest } from '../contract/row.ts';

/** The combinations whose dataplane enforces policy. */
export const enforcing: readonly Combination[] = (
  await Promise.all(
    combinations.map(async (combination) => ((await capabilitiesOf(combination)).enforcesPolicy ? [combination] : [])),
  )
).flat();

/** What the settings must be so that others' changes are seen within a second. */
export const everySecond = {
  iptablesRefreshInterval: '1s',
  ipsetsRefreshInterval: '1s',
  routeRefreshInterval: '1s',
} as const;

/** A datagram that must not arrive is sent so often, in ms. */
const deniedMs = 2;

/**
 * ```
 * node1: friend (may)   outcast (may not)   near (served)
 * node2: stranger (may not)                 far  (served)
 * ```
 */
export class PolicyLab implements AsyncDisposable {
  readonly lab: Lab;
  readonly friend: LabPod;
  readonly served: readonly LabPod[];
  readonly denied: readonly LabPod[];

  private constructor(lab: Lab, friend: LabPod, served: readonly LabPod[], denied: readonly LabPod[]) {
    this.lab = lab;
    this.friend = friend;
    this.served = served;
    this.denied = denied;
  }

  /** With these policies in force from the start. */
  static async start({ felix, env }: Combination, policies: readonly Manifest[]): Promise<PolicyLab> {
    const { bpfEnabled, ...settings } = felix;
    const lab = await startAgentLab({
      bpfEnabled: bpfEnabled === true,
      felix: { ...settings, ...everySecond },
      agentEnv: env,
    });
    try {
      lab.apply('policies', policies);
      const [one, two] = [lab.node(0), lab.node(1)];
      const friend = await one.addPod('friend', { labels: { role: 'friend' } });
      const near = await one.addPod('near', { labels: { role: 'served' } });
      const outcast = await one.addPod('outcast', { labels: { role: 'outcast' } });
      const far = await two.addPod('far', { labels: { role: 'served' } });
      const stranger = await two.addPod('stranger', { labels: { role: 'outcast' } });
      await Promise.all([friend, near, outcast, far, stranger].map((pod) => pod.peer()));
      return new PolicyLab(lab, friend, [near, far], [outcast, stranger]);
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What the denied may not reach by now; empty when policy is in force and the friend reaches everyone. */
  async wrong(): Promise<readonly string[]> {
    const questions = this.served.flatMap((to) =>
      to.addresses.flatMap((address) => [
        { from: this.friend, to, address, expected: 'reaches', timeoutMs: 10_000 },
        ...this.denied.map((from) => ({ from, to, address, expected: 'nothing', timeoutMs: 200 })),
      ]),
    );
    const answers = await Promise.all(
      questions.map(async ({ from, to, address, expected, timeoutMs }) => {
        const { verdict } = await (await from.peer()).probe(address, { timeoutMs });
        return verdict === expected ? [] : [`${from.name} > ${to.name} ${address}: ${verdict}, not ${expected}`];
      }),
    );
    return answers.flat();
  }

  /** The friend's connections, which must all live, and what the denied send, of which nothing may arrive. */
  async traffic(): Promise<PolicyTraffic> {
    const friendly = await Traffic.start(this.friend, this.served);
    const denied = await Promise.all(
      this.denied.flatMap((from) =>
        this.served.flatMap((to) =>
          to.addresses.map(async (address) => (await from.peer()).stream(address, deniedMs, { protocol: 'udp' })),
        ),
      ),
    );
    return { stop: () => this.#stop(friendly, denied) };
  }

  /** What the served have heard of the denied so far, packets by `from > to`; empty when nothing. */
  async leaked(): Promise<Readonly<Record<string, number>>> {
    const heard = await Promise.all(this.served.map(async (to) => ({ to, packets: await (await to.peer()).heard() })));
    const leaks = heard.flatMap(({ to, packets }) =>
      this.denied.flatMap((from) =>
        from.addresses.map((address) => [`${from.name} (${address}) > ${to.name}`, packets[address] ?? 0] as const),
      ),
    );
    return Object.fromEntries(leaks.filter(([, count]) => count > 0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
  }

  async #stop(friendly: Traffic, denied: readonly RunningStream[]): Promise<PolicyTrafficReport> {
    const report = await friendly.stop();
    const reports = await Promise.all(denied.map((stream) => stream.stop()));
    return {
      losses: losses(report),
      longestStallMs: report.longestStallMs,
      deniedSent: reports.reduce((sum, { sent }) => sum + sent, 0),
      forgedHeard: report.forged.heard,
    };
  }
}

export interface PolicyTraffic {
  stop(): Promise<PolicyTrafficReport>;
}

/** What became of it. */
export interface PolicyTrafficReport {
  /** Of the friend's connections; empty when no message was lost and all live. */
  readonly losses: Readonly<Record<string, string>>;
  readonly longestStallMs: number;
  readonly deniedSent: number;
  readonly forgedHeard: number;
}

/** A pod's addresses that nobody has, by number: both families, as the annotation takes them. */
export function wishedAddresses(number: number): {
  readonly addresses: readonly string[];
  readonly annotation: string;
} {
  const addresses = [`10.65.210.${number}`, `fd65::d2:${number}`];
  return { addresses, annotation: JSON.stringify(addresses) };
}
