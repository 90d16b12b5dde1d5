import { useCallback, useEffect, useRef, useState } from 'react';
import { connect } from 'voicematch';

/**
 * A call in a React component:
 *
 *     const { state, messages, talk, next, send, leave, hear, audio } = useVoicematch('https://voice.example.org');
 *     return <><audio ref={audio} playsInline /><button onClick={talk}>Talk</button>...</>;
 *
 * `state`: `idle`, `waiting`, `call`, `reconnecting`. `error`: an error with a `code`, or `null`; after `needs_click` give the user a
 * button that calls `hear`. The session and the microphone end with the component.
 */
export function useVoicematch(url, options) {
  const [state, setState] = useState('idle');
  const [error, setError] = useState(null);
  const [messages, setMessages] = useState([]);
  const session = useRef(null);
  const call = useRef(null);
  const audio = useRef(null);
  const settings = useRef(options);
  /** Ends with the component, whatever is under way then. */
  const life = useRef(null);
  const searches = useRef(false);

  useEffect(() => {
    const controller = (life.current = new AbortController());
    setState('idle');
    return () => controller.abort();
  }, [url]);

  /** In a call: leaves it for another partner. */
  const talk = useCallback(async () => {
    if (searches.current) return;
    searches.current = true;
    const { signal } = life.current;
    setError(null);
    setState('waiting');
    try {
      if (!session.current || session.current.state === 'closed') {
        const vm = (session.current = await connect(url, { ...settings.current, signal }));
        vm.addEventListener('state', () => {
          if (call.current) setState(vm.state === 'reconnecting' ? 'reconnecting' : 'call');
        });
      }
      call.current = null;
      const found = (call.current = await session.current.find());
      setMessages([]);
      found.addEventListener('message', ({ detail }) => setMessages((all) => [...all, { from: 'partner', data: detail.data }]));
      found.addEventListener('ended', () => {
        if (call.current !== found) return;
        call.current = null;
        setState('idle');
      });
      setState('call');
      found.play(audio.current).catch(setError);
    } catch (failed) {
      if (signal.aborted) return;
      setError(failed);
      setState('idle');
    } finally {
      searches.current = false;
    }
  }, [url]);

  const hear = useCallback(() => call.current?.play(audio.current).then(() => setError(null), setError), []);
  const leave = useCallback(() => call.current?.leave(), []);
  const send = useCallback(async (data) => {
    if (!call.current) return;
    setMessages((all) => [...all, { from: 'me', data }]);
    await call.current.send(data).catch(setError);
  }, []);
  return { state, error, messages, talk, next: talk, leave, hear, send, audio };
}
