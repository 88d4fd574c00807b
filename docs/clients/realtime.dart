// Hallway over the stock client: rooms that are joined again with their offsets, each event once and in order.
// Needs socket_io_client ^2.0.3 or ^3.0.0 and nothing else. Copy it into your app; dart.md shows its use.
import 'dart:async';
import 'dart:math';

import 'package:socket_io_client/socket_io_client.dart' as IO;

const _remembered = 5000; // ids of events, once to twice as many: several pages of 1000 missed events
const _longestPause = Duration(seconds: 30);
const _forNow = ['unavailable', 'rate-limited']; // refusals that pass; the others stay

void _ignore([_]) {}
void _log(Object error) => print('realtime: $error');

class Realtime {
  /// [token] is asked before every connect. [offsets] are the rooms to be in from the start, as the getter gave them.
  Realtime(String url, this.token,
      {Map<String, String?> offsets = const {},
      this.onGap = _ignore,
      this.onError = _log,
      this.onKicked = _ignore,
      this.onState = _ignore}) {
    _offsets.addAll(offsets);
    final options = IO.OptionBuilder()
        .setTransports(['websocket'])
        .setAuthFn(_authenticate)
        .enableForceNew()
        .disableAutoConnect()
        .build();
    final base = url.replaceFirst(RegExp(r'/+$'), '');
    _socket = IO.io('$base/realtime', options);
    _socket.onConnect((_) => _connected());
    _socket.onDisconnect((reason) => _disconnected(reason));
    // A refused token is an 'error' up to 3.1.3, and later a 'connect_error' that leaves the socket inactive.
    _socket.on('error', (error) => _failed(error, true));
    _socket.onConnectError((error) => _failed(error, !_socket.active));
    _socket.onAny((_, message) {
      if (message is Map && message['event'] is Map) _take(message['event']);
    });
    _socket.connect();
  }

  final FutureOr<String> Function() token;
  final void Function(String room) onGap;
  final void Function(Object error) onError;
  final void Function() onKicked;
  final void Function(String state) onState;

  String state = 'connecting'; // connected, reconnecting, kicked, closed
  late final IO.Socket _socket;
  String? _shown;
  Timer? _pause;
  int _tries = 0;
  final _offsets = <String, String?>{};
  final _handlers = <String, List<FutureOr<void> Function(Map event)>>{};
  final _waiting = <String>{};
  var _seen = <String>{}, _seenBefore = <String>{};

  /// The rooms, each with the last offset seen or null. Kept on disk, they make a restart lose nothing.
  Map<String, String?> get offsets => Map.of(_offsets);

  /// Joins a room, with [after] from that offset on. A room that one is in stays as it is.
  void join(String room, [String? after]) {
    if (_offsets.containsKey(room) && after == null) return;
    _offsets[room] = after;
    _join([room]);
  }

  void leave(String room) {
    if (!_offsets.containsKey(room)) return;
    _offsets.remove(room);
    if (_socket.connected) _socket.emitWithAck('leave_room', {'room': room}, ack: _ignore);
  }

  /// Calls [handler] for every event of a type; returns a function that ends it.
  void Function() on(String type, FutureOr<void> Function(Map event) handler) {
    FutureOr<void> entry(Map event) => handler(event);
    _handlers.putIfAbsent(type, () => []).add(entry);
    return () => _handlers[type]!.remove(entry);
  }

  /// What happened in a room since a time (epoch ms) or after an offset: events, offset, complete, hasMore.
  Future<Map> missed(String room, Object since) {
    final key = since is String ? 'after' : 'since';
    return command('get_missed_events', {'room': room, key: since});
  }

  /// Any command: the data of its reply, or a StateError with the code.
  Future<Map> command(String name, Map argument) {
    final answer = Completer<Map>();
    _socket.emitWithAck(name, argument, ack: (reply) {
      final error = reply['error'];
      if (error == null) {
        answer.complete(reply['data'] ?? {});
      } else {
        answer.completeError(StateError('$name: $error'));
      }
    });
    return answer.future.timeout(_longestPause);
  }

  /// Comes back after a kick.
  void connect() {
    _set('connecting');
    _socket.connect();
  }

  /// Ends it for good: nothing is called any more.
  void close() {
    _set('closed');
    _pause?.cancel();
    _socket.dispose();
  }

  Future<void> _authenticate(void Function(Map auth) give) async {
    final engine = _socket.io.engine;
    try {
      _shown = await token();
    } catch (error) {
      _shown = '';
      _safely(() => onError(error));
    }
    // A transport that came meanwhile has asked by itself.
    if (identical(engine, _socket.io.engine)) give({'token': _shown});
  }

  void _connected() {
    _tries = 0;
    _pause?.cancel();
    _waiting.clear();
    _set('connected');
    _join(_offsets.keys.toList());
  }

  void _disconnected(reason) {
    _pause?.cancel();
    if (state == 'closed') return;
    _set(reason == 'io server disconnect' ? 'kicked' : 'reconnecting');
    if (state == 'kicked') _safely(onKicked);
  }

  // A wrong URL, a 403, a gateway that is away: the client tries again by itself. After a refused token 2.0.3 does so when
  // its transport is closed, and 3.x not at all.
  void _failed(error, bool refused) {
    final reason = error is Map ? error['message'] : error;
    _safely(() => onError('cannot connect: $reason'));
    if (refused) _later(() => _socket.active ? _socket.io.engine?.close() : _socket.connect());
  }

  void _join(List<String> rooms) {
    if (rooms.isEmpty || !_socket.connected) return;
    final asked = [
      for (final room in rooms) {'room': room, if (_offsets[room] != null) 'after': _offsets[room]}
    ];
    // A callback: behind an `await` the first live events may already have come.
    _socket.emitWithAck('join_rooms', {'rooms': asked}, ack: (reply) => _joined(rooms, reply));
  }

  void _joined(List<String> rooms, Map reply) {
    if (reply['error'] == 'too-many-rooms' && rooms.length > 1) {
      final half = rooms.length ~/ 2;
      return [rooms.sublist(0, half), rooms.sublist(half)].forEach(_join);
    }
    final data = reply['data'] ?? {};
    final List results = data['rooms'] ??
        [
          for (final room in rooms) {'room': room, 'error': reply['error']}
        ];
    for (final one in results) {
      if (one['complete'] == false) _safely(() => onGap(one['room']));
    }
    for (final event in data['events'] ?? []) {
      _take(event);
    }
    for (final one in results) {
      final room = one['room'], error = one['error'];
      if (!_offsets.containsKey(room)) continue; // a handler has left it
      if (error == null) {
        _offsets[room] = one['offset'];
      } else if (_forNow.contains(error)) {
        _waiting.add(room);
      } else {
        _refused(room, error);
      }
    }
    if (_waiting.isEmpty) {
      _tries = 0;
    } else {
      _later(_joinWaiting);
    }
  }

  void _joinWaiting() {
    final rooms = _waiting.where((room) => _offsets.containsKey(room)).toList();
    _waiting.clear();
    _join(rooms);
  }

  void _refused(String room, String error) {
    _offsets.remove(room);
    if (error != 'history-disabled') return _safely(() => onError('$room: $error'));
    _safely(() => onGap(room)); // nothing is kept of this room, so there is no offset to go on from
    join(room);
  }

  void _take(Map event) {
    if (state == 'closed') return;
    final String id = event['id'], type = event['type'];
    if (!_seenBefore.contains(id) && _seen.add(id)) {
      if (_seen.length == _remembered) {
        _seenBefore = _seen;
        _seen = <String>{};
      }
      for (final handler in List.of(_handlers[type] ?? const [])) {
        _safely(() => handler(event));
      }
    }
    final meta = event['meta'];
    final Map offsets = meta['offsets'] ?? {meta['room']: meta['offset']};
    offsets.forEach((room, offset) {
      if (offset != null && _offsets.containsKey(room)) _offsets[room] = offset;
    });
    if (type == 'room.revoked') _offsets.remove(event['payload']['room']);
    if (type == 'auth.expiring') _safely(_refresh);
  }

  // Shows a newer token, if there is one; else the socket is closed when this one expires, and comes back.
  Future<void> _refresh() async {
    final fresh = await token();
    if (fresh == _shown) return;
    _shown = fresh;
    await command('refresh_token', {'token': fresh});
  }

  void _later(void Function() run) {
    _pause?.cancel();
    final longest = min(_longestPause.inMilliseconds, 1000 * (1 << min(_tries++, 9)));
    final pause = (longest * (0.5 + Random().nextDouble() / 2)).round();
    _pause = Timer(Duration(milliseconds: pause), run);
  }

  void _set(String to) {
    state = to;
    _safely(() => onState(to));
  }

  // What a handler throws, at once or later, is told and harms nothing else.
  void _safely(FutureOr<void> Function() run) {
    Future<void>.sync(run).catchError((error) {
      if (state != 'closed') onError(error);
    }).catchError(_log);
  }
}
