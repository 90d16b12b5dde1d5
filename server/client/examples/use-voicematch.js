import { useCallback, useEffect, useRef, useState } from 'react';
import { connect } from 'voicematch';

/**
 * A call in a React component:
 *
 *     const { state, messages, talk, next, send, leave, hear, audio } = useVoicematch('https://voice.example.org');
 *     return <><audio ref={audio} playsInline /><button onClick={talk}>Talk</button>...</>;
 *
 * `state`: `idle`, `waiting`, `call`, `reconnecting`. `error`: an error with a `code`, or `null`; after `needs_click` give the user a
 * button that calls `hear`.
 */
export function useVoicematch(url, options) {
  const [state, setState] = useState('idle');
  const [error, setError] = useState(null);
  const [messages, setMessages] = useState([]);
  const session = useRef(null);
  const call = useRef(null);
  const audio = useRef(null);
  const settings = useRef(options);

  useEffect(() => () => session.current?.close(), [url]);

  const begin = useCallback(async (find) => {
    setError(null);
    setState('waiting');
    try {
      if (!session.current || session.current.state === 'closed') {
        const vm = (session.current = await connect(url, settings.current));
        vm.addEventListener('state', () => {
          if (call.current) setState(vm.state === 'reconnecting' ? 'reconnecting' : 'call');
        });
      }
      const found = (call.current = await find(session.current));
      setMessages([]);
      found.addEventListener('message', ({ detail }) => setMessages((all) => [...all, { from: 'partner', data: detail.data }]));
      found.addEventListener('ended', () => {
        if (call.current !== found) return;
        call.current = null;
        setState('idle');
      });
      setState('call');
      await found.play(audio.current).catch(setError);
    } catch (failed) {
      setError(failed);
      setState('idle');
    }
  }, [url]);

  const talk = useCallback(() => begin((vm) => vm.find()), [begin]);
  const next = useCallback(() => begin(() => call.current.next()), [begin]);
  const hear = useCallback(() => call.current.play(audio.current).then(() => setError(null), setError), []);
  const leave = useCallback(() => call.current?.leave(), []);
  const send = useCallback(async (data) => {
    setMessages((all) => [...all, { from: 'me', data }]);
    await call.current.send(data);
  }, []);
  return { state, error, messages, talk, next, leave, hear, send, audio };
}
