import type { DataplaneUpdate } from '../messages.ts';
import type { Classifier, ClassifierUpdate } from './classifier/classifier.ts';
import type { ServiceTable, ServiceUpdate } from './services/service-table.ts';

/** Who is told of policy, and of Services. */
interface Listeners {
  readonly classifier: Pick<Classifier, 'onUpdate'>;
  readonly services: Pick<ServiceTable, 'onUpdate'>;
}

/** Hands what is said of policy and Services to those who keep their maps; what is said before they are there waits for them. */
export class PolicyMessages {
  readonly #waiting: (ClassifierUpdate | ServiceUpdate)[] = [];
  #listeners: Listeners | undefined;

  record(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'ipSetUpdate':
      case 'ipSetDelta':
      case 'ipSetRemove':
      case 'policyUpdate':
      case 'policyRemove':
      case 'profileUpdate':
      case 'profileRemove':
      case 'serviceUpdate':
      case 'serviceRemove':
        if (this.#listeners === undefined) this.#waiting.push(update);
        else tell(this.#listeners, update);
        break;
      default:
        break;
    }
  }

  /** New ones, who know nothing but what is `said` to them first; undefined: the last are gone, with all that they were told. */
  useListeners(listeners: Listeners | undefined, said: Iterable<ClassifierUpdate | ServiceUpdate> = []): void {
    this.#listeners = listeners;
    if (listeners === undefined) return;
    for (const update of said) tell(listeners, update);
    for (const update of this.#waiting.splice(0)) tell(listeners, update);
  }
}

function tell({ classifier, services }: Listeners, update: ClassifierUpdate | ServiceUpdate): void {
  if (update.type === 'serviceUpdate' || update.type === 'serviceRemove') services.onUpdate(update);
  else classifier.onUpdate(update);
}
