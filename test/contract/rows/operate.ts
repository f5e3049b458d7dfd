/** What the commands say of policy is what the packets do. */
import { eventually } from '#test/lab/agent-lab.ts';
import type { Bed } from '../bed.ts';
import { globalPolicy, stagedGlobalPolicy, tier } from '../objects.ts';
import { policyRow, type Family, type Row } from '../row.ts';

const web = { selector: "color == 'green'", types: ['Ingress'] };

/** What a command on node1 answers with `-o json`. */
async function say<T>(bed: Bed, ...args: string[]): Promise<T> {
  const { status, stdout, stderr } = await bed.node('node1').tortie(...args, '-o', 'json');
  if (status !== 0) throw new Error(`tortie ${args.join(' ')}: status ${status}: ${stderr}${stdout}`);
  return JSON.parse(stdout) as T;
}

/** How many packets each rule of web's ingress has matched, by the rule's id. */
async function packetsByRule(bed: Bed): Promise<Readonly<Record<string, number>>> {
  interface Report {
    readonly ingress: {
      readonly tiers: readonly {
        readonly policies: readonly {
          readonly rules: readonly { readonly id: string; readonly counter: { readonly packets: number } | null }[];
        }[];
      }[];
    };
  }
  const { ingress } = await say<Report>(bed, 'policy', 'show', 'default/web');
  const all = ingress.tiers.flatMap(({ policies }) => policies.flatMap(({ rules }) => rules));
  return Object.fromEntries(all.map(({ id, counter }) => [id, counter?.packets ?? 0]));
}

/** New connections; whether they are answered is not asked. */
async function connect(bed: Bed, from: string, port: number, times: number): Promise<void> {
  const peer = await bed.peer(from);
  for (let done = 0; done < times; done++) {
    for (const host of bed.pod('web').addresses) await peer.probe(host, { port, timeoutMs: 100 });
  }
}

/** Who decides on the way from one to the other, and how. */
async function explained(bed: Bed, family: Family, from: string, port: number): Promise<string> {
  const of = ['--family', family.slice(-1)];
  interface Explanation {
    readonly verdict: string;
    readonly reason: string;
  }
  const { verdict, reason } = await say<Explanation>(bed, 'explain', from, 'default/web', 'tcp', String(port), ...of);
  return `${verdict}: ${reason}`;
}

const says = (from: string, port: number, pattern: RegExp) => async (bed: Bed, family: Family) => {
  const answer = await explained(bed, family, from, port);
  return pattern.test(answer) ? undefined : answer;
};

export const operate: readonly Row[] = [
  policyRow({
    name: 'every rule counts the connections that it has decided on; a staged one counts and decides nothing',
    source: ['core 23', 'design 6'],
    given: [
      stagedGlobalPolicy('trial', {
        ...web,
        order: 1,
        ingress: [{ action: 'Deny', protocol: 'TCP', destination: { ports: [8080] } }],
      }),
      globalPolicy('real', {
        ...web,
        order: 2,
        ingress: [
          { action: 'Deny', source: { selector: "color == 'azalea'" } },
          { action: 'Allow', protocol: 'TCP', destination: { ports: [8080, 9090] } },
        ],
      }),
    ],
    phases: [
      {
        do: [
          {
            act: 'connections are counted by rule',
            run: async (bed) => {
              const ask = async () => {
                await connect(bed, 'client', 8080, 3);
                await connect(bed, 'client', 9090, 2);
                await connect(bed, 'far', 8080, 4);
              };
              let before = await packetsByRule(bed);
              await ask();
              // Of both families.
              const expected = {
                'StagedGlobalNetworkPolicy trial ingress 0': 14,
                'GlobalNetworkPolicy real ingress 0': 8,
                'GlobalNetworkPolicy real ingress 1': 10,
              };
              let counted: Record<string, number> = {};
              let asked = 1;
              await eventually(
                async () => {
                  // On a machine that stood still for a second, what is dropped has been sent again before its probe gave up.
                  if (asked < 3 && Object.entries(expected).some(([id, count]) => (counted[id] ?? 0) > count)) {
                    asked++;
                    process.stdout.write(`counted too often, asked again: ${JSON.stringify(counted)}\n`);
                    before = await packetsByRule(bed);
                    counted = {};
                    await ask();
                  }
                  const now = await packetsByRule(bed);
                  counted = Object.fromEntries(
                    Object.keys(expected).map((id) => [id, (now[id] ?? 0) - (before[id] ?? 0)]),
                  );
                  return JSON.stringify(counted) === JSON.stringify(expected);
                },
                () => `counted: ${JSON.stringify(counted)}; asked of ${JSON.stringify(before)}`,
              );
            },
          },
        ],
        expect: { reaches: ['client > web tcp 8080,9090'], nothing: ['far > web tcp 8080', 'client > web tcp 7777'] },
      },
    ],
  }),
  policyRow({
    name: 'explain names the rule, the tier or the profile that the packets meet',
    source: ['design 6'],
    given: [
      tier('guard', { order: 10, defaultAction: 'Pass' }),
      globalPolicy('guard.no-azalea', {
        ...web,
        tier: 'guard',
        ingress: [{ action: 'Deny', source: { selector: "color == 'azalea'" } }],
      }),
      globalPolicy('only-http', {
        ...web,
        ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: ['http'] } }],
      }),
    ],
    phases: [
      {
        expect: {
          reaches: ['client > web tcp 8080'],
          nothing: ['far > web tcp 8080', 'client > web tcp 7777'],
          also: {
            'the rule that allows': says('default/client', 8080, /^allow: .*only-http/),
            'the rule that denies': says('default/far', 8080, /^deny: .*guard\.no-azalea/),
            'the end of the tier': says('default/client', 7777, /^deny: .*default/),
          },
        },
      },
      {
        do: [{ remove: ['only-http', 'guard.no-azalea'] }],
        expect: {
          reaches: ['client,far > web'],
          also: { 'the profile': says('default/client', 7777, /^allow: .*kns\.default/) },
        },
      },
    ],
  }),
];
